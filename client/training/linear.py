"""Training of a linear head by stochastic gradient descent, momentum or Adam, in native code.

It gives the heads that Keras gives, but for dropout, whose draws are of the same law.
"""

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedtransfer.client.training.kernel import OPTIMIZERS, TILE, kernel, tables
from fedtransfer.client.training.trainer import Features, Labels, Recipe, Trainer, TrainingJob, batches, pairs
from fedtransfer.common.head.head import Arrays, HeadSpec, predict

_ADAMW_DECAY = 0.004  # of Keras' AdamW where no other is given
_CHUNK = 1 << 24  # numbers of features that are drawn for at a time, with dropout

_PLAIN: list[Literal["C", "A"]] = ["C", "A"]  # contiguous and aligned

Rows = NDArray[np.int32]


def is_linear(spec: HeadSpec, optimizer: str) -> bool:
    """Return whether ``LinearTrainer`` trains such a head by such an optimizer."""
    return optimizer in OPTIMIZERS and not spec.hidden_units and spec.above is None


class LinearTrainer(Trainer):
    """Trains softmax regression; see ``docs/performance.md`` for how long it takes."""

    def __init__(self, spec: HeadSpec, recipe: Recipe) -> None:
        self._spec, self._recipe, self._kernel = spec, recipe, kernel()
        rows = spec.classes + spec.classes % 2
        self._tables = tables(7, rows, spec.features + 1)
        self._images, self._scores = tables(1, TILE, spec.features + 1), np.empty((TILE, rows), np.float32)

    def start(self, job: TrainingJob) -> Callable[[int], Arrays]:
        """Begin at the job's head, with a fresh optimizer; end any training that began before.

        Raises:
            ValueError: features, labels, correction or class weights are not as the head's shape
                requires. Native code would read or write whatever is there.
        """
        spec, recipe = self._spec, self._recipe
        x, y = np.require(job.x, np.float32, _PLAIN), np.require(job.y, np.int64, _PLAIN)
        given = np.ones(spec.classes) if job.class_weights is None else job.class_weights
        class_weights = np.require(given, np.float32, _PLAIN)
        _check(spec, x, y, class_weights)
        head, ahead, anchor, correction, m, v, gradient = self._tables
        head[:] = correction[:] = m[:] = v[:] = 0  # their padding too: one that overflowed left NaN there
        _fill(head, job.head, spec)
        if recipe.proximal:
            anchor[:] = head
        if job.correction is not None:
            _fill(correction, job.correction, spec)
        decay = recipe.weight_decay or (_ADAMW_DECAY if recipe.optimizer == "adamw" else 0.0)
        factors = recipe.learning_rate * job.rate, recipe.inner_rate, recipe.proximal, decay, spec.l2
        sizes = spec.features, spec.classes, *head.shape
        optimizer, taken = OPTIMIZERS[recipe.optimizer], 0

        def advance(epochs: int) -> Arrays:
            nonlocal taken
            for _ in range(epochs):
                epoch = batches(len(y), recipe.batch_size, job.rng)
                steps = pairs(epoch) if recipe.inner_rate else epoch[:, None]
                for features, labels, numbers in _with_dropout(x, y, steps, spec.dropout, job.rng):
                    arrays = (
                        features, labels, numbers, head, ahead, anchor, correction, class_weights, m, v,
                        self._images, self._scores, gradient,
                    )  # fmt: skip
                    self._kernel(arrays, (*sizes, *numbers.shape, optimizer, taken), factors)
                    taken += len(numbers)
            return head[: spec.classes, : spec.features].T.copy(), head[: spec.classes, spec.features].copy()

        return advance

    def predict(self, head: Arrays, x: Features) -> NDArray[np.float32]:
        """Return class probabilities (n, C) of features (n, d) under ``head``."""
        return predict(head, x)


def _check(spec: HeadSpec, x: Features, y: Labels, class_weights: NDArray[np.float32]) -> None:
    if x.shape != (len(y), spec.features) or class_weights.shape != (spec.classes,):
        got = f"features {x.shape}, labels {y.shape}, class weights {class_weights.shape}"
        raise ValueError(f"{got}; expected (n, {spec.features}), (n,), ({spec.classes},)")
    if len(y) and not 0 <= y.min() <= y.max() < spec.classes:
        raise ValueError(f"class numbers {y.min()} to {y.max()}; expected 0 to {spec.classes - 1}")


def _fill(table: NDArray[np.float32], arrays: Arrays, spec: HeadSpec) -> None:
    """Write kernel (d, C) and bias (C,) into a table, a row a class."""
    if (shapes := tuple(array.shape for array in arrays)) != spec.shapes:
        raise ValueError(f"arrays of {shapes}; expected {spec.shapes}")
    table[: spec.classes, : spec.features] = arrays[0].T
    table[: spec.classes, spec.features] = arrays[1]


def _with_dropout(
    x: Features, y: Labels, steps: Rows, rate: float, rng: np.random.Generator
) -> Iterator[tuple[Features, Labels, Rows]]:
    """Yield some of the steps' batches at a time, with the features and labels that they number.

    With dropout these are of the batches' own images, a share ``rate`` of whose features are 0.
    """
    if not rate:
        yield x, y, steps
        return
    at_once = max(1, _CHUNK // (math.prod(steps.shape[1:]) * x.shape[1]))
    for part in (steps[begin : begin + at_once] for begin in range(0, len(steps), at_once)):
        present = part >= 0
        images = x[part[present]]
        images *= (rng.random(images.shape, np.float32) >= rate) * np.float32(1 / (1 - rate))
        numbers = np.full(part.shape, -1, np.int32)
        numbers[present] = np.arange(len(images))
        yield images, y[part[present]], numbers
