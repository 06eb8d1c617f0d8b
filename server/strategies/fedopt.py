"""FedOpt with the Adam of Keras at the server.

Reddi et al. 2021, "Adaptive Federated Optimization" (arXiv 2003.00295), Algorithm 1: minus the mean
update is taken as a gradient, and the server's optimizer follows it. FedAdam, FedYogi and
FedAdagrad are the paper's own; this takes Adam as Keras has it, bias correction and all. Its
variables are the state's slots, so a resumed run goes on alike.
"""

from typing import Any

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays
from fedtransfer.server.strategies.fedavg import combine
from fedtransfer.server.strategies.strategy import Delta, State, Strategy


def start(head: Arrays, config: RunConfig) -> State:
    """Begin at ``head`` with a fresh optimizer."""
    _, optimizer = _build(head, config)
    return State(head, {"optimizer": _values(optimizer)})


def step(state: State, delta: Delta, config: RunConfig) -> State:
    """Make one server step."""
    weights, optimizer = _build(state.head, config)
    for variable, value in zip(optimizer.variables, state.slots["optimizer"], strict=True):
        variable.assign(value.astype(variable.dtype))
    optimizer.apply([-d.astype(np.float32) for d in delta], weights)
    return State(tuple(weight.numpy() for weight in weights), {"optimizer": _values(optimizer)})


def _build(head: Arrays, config: RunConfig) -> tuple[list[Any], Any]:
    from fedtransfer.common.head.keras_head import make_optimizer
    from fedtransfer.common.tensorflow import keras

    weights = [keras.Variable(array) for array in head]
    return weights, make_optimizer("adam", config.server_learning_rate, weights)


def _values(optimizer: Any) -> Delta:
    """Return the optimizer's variables; float64 holds each of them exactly."""
    return tuple(np.asarray(variable.numpy(), np.float64) for variable in optimizer.variables)


FEDOPT = Strategy(start, combine, step)
