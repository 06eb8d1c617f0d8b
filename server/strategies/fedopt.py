"""FedOpt with the Adam of Keras at the server.

Reddi et al. 2021, "Adaptive Federated Optimization" (arXiv 2003.00295), Algorithm 1: minus the mean
update is taken as a gradient g, and the server's optimizer follows it. FedAdam, FedYogi and
FedAdagrad are the paper's own; this takes Adam as Keras has it, bias correction and all:

    m ← m + (1 - β₁)(g - m),    v ← v + (1 - β₂)(g² - v),
    w ← w - η √(1 - β₂ᵗ) / (1 - β₁ᵗ) · m / (√v + ε).

All is in float32, as in Keras, where 1 - β₂ is off by 5e-5 of it. The slots hold these numbers
exactly, so a resumed run goes on alike.
"""

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import Arrays
from fedtransfer.server.strategies.fedavg import combine
from fedtransfer.server.strategies.strategy import Delta, State, Strategy, zeros

_BETA_1, _BETA_2, _EPSILON = np.float32(0.9), np.float32(0.999), np.float32(1e-7)
_BLEND_1, _BLEND_2 = np.float32(1 - 0.9), np.float32(1 - 0.999)
_SLOTS = ("first", "second", "steps")


def start(head: Arrays, config: RunConfig) -> State:
    """Begin at ``head`` with moments of 0, before the first step."""
    return State(head, {"first": zeros(head), "second": zeros(head), "steps": (np.zeros(1),)})


def step(state: State, delta: Delta, config: RunConfig) -> State:
    """Make one server step. Raises UserError: the slots are those of an earlier version."""
    if set(state.slots) != set(_SLOTS):
        raise UserError(
            f"fedopt: the checkpoint holds {', '.join(map(repr, sorted(state.slots)))}; expected "
            f"{', '.join(map(repr, _SLOTS))}; an earlier version wrote it, so start another run"
        )
    steps = np.float32(state.slots["steps"][0][0]) + np.float32(1)
    rate = np.float32(config.server_learning_rate)
    rate = rate * np.sqrt(1 - _BETA_2**steps) / (1 - _BETA_1**steps)
    head, first, second = [], [], []
    slots = zip(state.head, delta, state.slots["first"], state.slots["second"], strict=True)
    for w, d, m, v in ((w, d, m.astype(np.float32), v.astype(np.float32)) for w, d, m, v in slots):
        gradient = -d.astype(np.float32)
        m += (gradient - m) * _BLEND_1
        v += (np.square(gradient) - v) * _BLEND_2
        head.append(w - m * rate / (np.sqrt(v) + _EPSILON))
        first.append(m.astype(np.float64))
        second.append(v.astype(np.float64))
    moments = {"first": tuple(first), "second": tuple(second)}
    return State(tuple(head), {**moments, "steps": (np.array([steps], np.float64),)})


FEDOPT = Strategy(start, combine, step)
