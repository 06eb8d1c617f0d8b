"""The trainable head: a small Keras model from normalised features to class scores, and its arrays.

By default one linear layer, trained from zeros; its softmax is part of the loss and of the exported model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.compute import keras
from common.config import RunConfig
from common.errors import UserError
from common.seeds import generator

Arrays = tuple[NDArray[np.float32], ...]  # kernel (d, C) and bias (C,); with a hidden layer, its two before them


@dataclass(frozen=True)
class HeadSpec:
    """What a head looks like: all that must be equal for two heads to be averaged, and its regularisation.

    Attributes:
        features: d, the width of a feature vector.
        classes: C, the number of classes.
        hidden_units: width of one hidden ReLU layer, 0 for none.
        dropout: rate on the head's input.
        l1: L1 penalty on kernels.
        l2: L2 penalty on kernels.
    """

    features: int
    classes: int
    hidden_units: int = 0
    dropout: float = 0.0
    l1: float = 0.0
    l2: float = 0.0

    @classmethod
    def from_config(cls, config: RunConfig, features: int, classes: int) -> "HeadSpec":
        """Read the head's settings from a run config."""
        return cls(features, classes, config.hidden_units, config.dropout, config.l1, config.l2)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the head's arrays, in order."""
        width = self.hidden_units or self.features
        hidden = ((self.features, self.hidden_units), (self.hidden_units,)) if self.hidden_units else ()
        return (*hidden, (width, self.classes), (self.classes,))


def initial_head(spec: HeadSpec, seed: int) -> Arrays:
    """Return the head that training starts from: the softmax layer is zero, a hidden layer Glorot-uniform."""
    arrays = [np.zeros(shape, np.float32) for shape in spec.shapes]
    if spec.hidden_units:
        limit = np.sqrt(6 / (spec.features + spec.hidden_units))
        arrays[0] = generator(seed, "initial head").uniform(-limit, limit, spec.shapes[0]).astype(np.float32)
    return tuple(arrays)


def build_head(spec: HeadSpec) -> Any:
    """Build the head as a Keras model, (n, d) float32 → (n, C) class scores before the softmax."""
    penalty = keras.regularizers.L1L2(spec.l1, spec.l2) if spec.l1 or spec.l2 else None
    layers: list[Any] = [keras.Input((spec.features,), name="features")]
    if spec.dropout:
        layers.append(keras.layers.Dropout(spec.dropout, seed=0, name="dropout"))
    if spec.hidden_units:
        layers.append(keras.layers.Dense(spec.hidden_units, "relu", kernel_regularizer=penalty, name="hidden"))
    layers.append(
        keras.layers.Dense(spec.classes, kernel_initializer="zeros", kernel_regularizer=penalty, name="scores")
    )
    return keras.Sequential(layers, name="head")


def save_head(path: Path, head: Sequence[NDArray[np.float32]], classes: Sequence[str], fingerprint: str) -> None:
    """Write a head with its class names and its backbone's fingerprint; equal heads give equal bytes."""
    named: dict[str, Any] = {f"array_{i}": array for i, array in enumerate(head)}
    np.savez(path, classes=np.array(classes), fingerprint=np.array(fingerprint), **named)


def load_head(path: Path) -> tuple[Arrays, tuple[str, ...], str]:
    """Read what ``save_head`` wrote: arrays, class names, fingerprint.

    Raises:
        UserError: the file is missing or not a head.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = tuple(file[f"array_{i}"] for i in range(len(file.files) - 2))
            return arrays, tuple(map(str, file["classes"])), str(file["fingerprint"])
    except Exception as error:
        raise UserError(
            f"{path}: not a head that fedtransfer wrote ({error}); expected the head.npz of a run folder"
        ) from None
