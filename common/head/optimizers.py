"""Keras optimizers by their name in the run config, for sites and server."""

from collections.abc import Sequence
from typing import Any

from fedtransfer.common.compute import keras


def make_optimizer(name: str, learning_rate: float, variables: Sequence[Any], weight_decay: float = 0.0) -> Any:
    """Build a Keras optimizer; ``momentum`` and ``nesterov`` are SGD with momentum 0.9.

    Args:
        name: one of ``fedtransfer.common.config.config.Optimizer``.
        learning_rate: its rate.
        variables: the trained variables.
        weight_decay: λ of decoupled weight decay, w ← w - rate · λ · w at each step, on kernels and
            not on biases. 0 keeps Keras' default: none, but 0.004 for ``adamw``.
    """
    settings: dict[str, Any] = {"learning_rate": learning_rate}
    if weight_decay:
        settings["weight_decay"] = weight_decay
    if name in ("momentum", "nesterov"):
        settings |= {"momentum": 0.9, "nesterov": name == "nesterov"}
        name = "sgd"
    optimizer = keras.optimizers.get({"class_name": name, "config": settings})
    optimizer.exclude_from_weight_decay([variable for variable in variables if len(variable.shape) < 2])
    optimizer.build(list(variables))
    return optimizer
