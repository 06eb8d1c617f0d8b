"""The trainable head: its shape and its arrays, from normalised features to class scores.

By default it is one linear layer, trained from zeros; the softmax is part of the loss and of the
exported model. If training goes deeper, the convolutions above a cut of the backbone
(``fedtransfer.common.backbone.cut``) are the first arrays, and a feature map joins the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import Backbone
from fedtransfer.common.backbone.cut import HEAD, Above, cut
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.feature_map import FeatureMap, Moments, feature_map, feature_width
from fedtransfer.common.seeds import generator
from fedtransfer.common.support.files import replacement
from fedtransfer.common.wire.protocol import Arrays as Arrays

_MOMENTS = ("mean", "deviation")  # their names in a head's file


@dataclass(frozen=True)
class HeadSpec:
    """The shape of a head, which two heads must share to be averaged, and its regularisation."""

    features: int  # d, the width of a feature vector as the head sees it
    classes: int  # C, the number of classes
    hidden_units: int = 0  # width of one hidden ReLU layer, 0 for none
    dropout: float = 0.0  # rate on the head's input
    l2: float = 0.0  # L2 penalty on all trained kernels, those of convolutions included
    above: Above | None = None  # the trained part of the backbone; None for the head alone
    # With ``above``, the map from pooled features to the head's input (n, d).
    feature_map: FeatureMap | None = None

    @property
    def width(self) -> int:
        """Values of an image at the input of the trained part: those at the cut, or d."""
        return self.above.width if self.above else self.features

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the trained arrays, in order."""
        width = self.hidden_units or self.features
        hidden = ((self.features, self.hidden_units), (self.hidden_units,)) if self.hidden_units else ()
        return (*(self.above.shapes if self.above else ()), *hidden, (width, self.classes), (self.classes,))


def initial_head(spec: HeadSpec, seed: int) -> Arrays:
    """Return the initial head: the softmax layer is zero, a hidden layer is Glorot-uniform.

    Convolutions above a cut have their pretrained values.
    """
    arrays = [np.zeros(shape, np.float32) for shape in spec.shapes]
    if spec.hidden_units:
        limit, rng = np.sqrt(6 / (spec.features + spec.hidden_units)), generator(seed, "initial head")
        arrays[-4] = rng.uniform(-limit, limit, spec.shapes[-4]).astype(np.float32)
    pretrained = spec.above.pretrained if spec.above else ()
    return (*pretrained, *arrays[len(pretrained) :])


def deepen(arrays: Arrays, old: HeadSpec, new: HeadSpec) -> Arrays:
    """Return the arrays of a deeper cut: pretrained ones, then those trained so far.

    Raises:
        ValueError: ``new`` does not train all arrays of ``old``.
    """
    names = old.above.names if old.above else ()
    more = new.above.names if new.above else ()
    added = len(more) - len(names)
    if added < 0 or more[added:] != names:
        raise ValueError(f"{more} does not end in {names}")
    return (*(new.above.pretrained[:added] if new.above else ()), *arrays)


def predict(head: Arrays, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return class probabilities (n, C) of features (n, d) under a head without convolutions.

    The arrays are kernel and bias of the softmax layer, after those of a hidden ReLU layer.
    """
    *hidden, kernel, bias = head
    if hidden:
        x = np.maximum(x @ hidden[0] + hidden[1], 0)
    return softmax(x @ kernel + bias)


def softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn class scores (n, C) into probabilities, in place."""
    scores -= scores.max(1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(1, keepdims=True)
    return scores


def mix(start: Arrays, end: Arrays, share: float) -> Arrays:
    """Return (1 - share) · start + share · end; at 0 and 1, exactly these heads."""
    if share in (0, 1):  # exact even if the other head has infinite values
        return end if share else start
    return tuple((a + share * (b - a)).astype(np.float32) for a, b in zip(start, end, strict=True))


def save_head(
    path: Path, head: Sequence[NDArray[np.float32]], classes: Sequence[str], fingerprint: str,
    moments: Moments | None = None, layer: str = HEAD, *, durable: bool = True,
) -> None:  # fmt: skip
    """Write a head's arrays and class names to a ``.npz`` file; equal heads give equal bytes.

    Next to them are the backbone's fingerprint, the federation's moments, if features are
    standardised by them, and the layer of the backbone at which the arrays begin. ``durable`` is as
    in ``replacement``.
    """
    named: dict[str, Any] = {f"array_{i}": array for i, array in enumerate(head)}
    named |= dict(zip(_MOMENTS, moments or (), strict=bool(moments)))
    if layer != HEAD:
        named["layer"] = np.array(layer)
    with replacement(path, durable=durable) as temporary, temporary.open("wb") as file:
        np.savez(file, classes=np.array(classes), fingerprint=np.array(fingerprint), **named)


def load_head(path: Path) -> tuple[Arrays, tuple[str, ...], str]:
    """Read arrays, class names, fingerprint. Raises UserError: it is no file of ``save_head``."""
    try:
        with np.load(path, allow_pickle=False) as file:
            number = sum(name.startswith("array_") for name in file.files)
            arrays = tuple(file[f"array_{i}"] for i in range(number))
            return arrays, tuple(map(str, file["classes"])), str(file["fingerprint"])
    except Exception as error:
        raise UserError(
            f"{path}: not a head that fedtransfer wrote ({error}); expected the head.npz of a run folder"
        ) from None


def load_moments(path: Path) -> Moments | None:
    """Read the federation's mean and deviation (d,) float64 from a head's file, or None."""
    with np.load(path, allow_pickle=False) as file:
        return tuple(file[name] for name in _MOMENTS) if set(_MOMENTS) <= set(file.files) else None


def load_layer(path: Path) -> str:
    """Read the layer at which a head's arrays begin; ``head`` for the head alone."""
    with np.load(path, allow_pickle=False) as file:
        return str(file["layer"]) if "layer" in file.files else HEAD


@lru_cache(maxsize=32)
def head_spec(config: RunConfig, backbone: Backbone, classes: int, layer: str = HEAD) -> HeadSpec:
    """Return the shape of what is trained from a layer on. Raises UserError: see ``cut``."""
    width, above = feature_width(config, backbone), cut(backbone, layer).above
    mapped = feature_map(config, backbone) if above else None
    return HeadSpec(width, classes, config.hidden_units, config.dropout, config.l2, above, mapped)
