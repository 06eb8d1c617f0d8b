"""DP-SGD (Abadi et al. 2016, arXiv 1607.00133) of one softmax layer, in NumPy.

Each step sums the clipped gradients of a Poisson sample of the images, and adds Gaussian noise. It
divides by the same public number whatever the size of the sample. The gradient of one image is (p -
y) ⊗ [x; 1], of norm ‖p - y‖ · √(‖x‖² + 1), so it is clipped without being computed.

A malicious server may choose the head so that class scores depend on their last bit. So the
gradient of an image must not depend on the other images in the batch. BLAS rounds a row of a
product differently for different numbers of rows, so the scores of each image are a product of
their own.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.client.training.trainer import Features, Labels, Recipe, weighted_change
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.privacy.gaussian import NoiseSource
from fedtransfer.common.privacy.guarantee import Guarantee, guarantee
from fedtransfer.common.wire.protocol import Task

# Larger than the sum of all squares that underflow in float32, yet too small to affect other sums.
_UNDERFLOW = np.float32(1e-30)
_MARGIN = np.float32(1 - 1e-5)  # of the clip norm, for rounding in float32
_TOSSES = 2**14  # random numbers per call: each call into NumPy may have to wait for another thread


def train_privately(
    head: Arrays, x: Features, y: Labels, recipe: Recipe, promised: Guarantee, rng: np.random.Generator, *,
    rate: float = 1.0,
) -> Arrays:  # fmt: skip
    """Return ``head`` after the noisy steps of one round; each step is one release.

    Args:
        head: kernel (d, C) and bias (C,); an adversary may choose it.
        x, y: features (n, d) and class numbers (n,); n may be 0.
        recipe: plain SGD: learning rate, divisor of a batch, weight decay, FedProx' pull.
        promised: number of steps, probability of an image to be in a batch, clip norm, and standard
            deviation of the noise as a multiple of the clip norm.
        rng: draws batches and noise; outside tests ``secret_generator()``.
        rate: share of the recipe's learning rate in this round.
    """
    step = recipe.learning_rate * rate
    factor = step / recipe.batch_size
    pull, decay = np.float32(step * recipe.proximal), np.float32(step * recipe.weight_decay)
    now = np.concatenate([head[0].T.ravel(), head[1]])
    change = np.empty_like(now, np.float32)
    (weights, bias), (dw, db) = _parts(now, head), _parts(change, head)
    anchor = now.copy() if pull else None
    source = NoiseSource(now.size, promised.noise_multiplier * promised.clip * factor, rng, promised.releases)
    with np.errstate(all="ignore"):  # the server refuses a head that overflows
        gradients = ClippedGradients(x, y, promised.clip)
        for rows in batches(len(y), promised.release.rate, promised.releases, rng):
            gradients.sum(weights, bias, rows, factor, dw, db)
            change += source.draw()
            if anchor is not None:  # FedProx
                change += pull * (now - anchor)
            if decay:
                dw += decay * weights
            now -= change
    return np.ascontiguousarray(weights.T), bias.copy()


def clipped_gradient_sum(
    head: Arrays, x: Features, y: Labels, recipe: Recipe, promised: Guarantee, rng: np.random.Generator
) -> Arrays:
    """Return the summed clipped gradients of a Poisson sample, before noise, shaped as ``head``.

    It is in float64, as rounding to whole numbers requires
    (``fedtransfer.common.privacy.discrete``). One image, added or removed, changes it by at most
    ``promised.clip`` in Euclidean norm. The arguments are those of ``train_privately``.
    """
    total = np.empty(head[0].size + head[1].size, np.float64)
    dw, db = _parts(total, head)
    with np.errstate(all="ignore"):
        gradients = ClippedGradients(x, y, promised.clip)
        [rows] = batches(len(y), promised.release.rate, 1, rng)
        gradients.sum(head[0].T, head[1], rows, 1.0, dw, db)
    return np.ascontiguousarray(dw.T), db


def private_update(task: Task, x: Features, y: Labels, config: RunConfig, rng: np.random.Generator) -> Arrays:
    """Return the change of the head after a round of DP-SGD.

    With shared noise it is the change after one step without noise: -rate · Σ / batch size, in
    float64. An image changes it by at most rate · clip / batch size. It is not private itself: only
    the sum over sites is, after each site has added its share of noise.

    The ``rng`` draws batches and noise; outside tests it is a secret one
    (``fedtransfer.common.privacy.gaussian``).
    """
    recipe, promised = Recipe.from_config(config), guarantee(config)
    assert promised
    if config.noise == "shared":
        step = -recipe.learning_rate * task.rate / recipe.batch_size
        return tuple(step * array for array in clipped_gradient_sum(task.head, x, y, recipe, promised, rng))
    return weighted_change(task.head, train_privately(task.head, x, y, recipe, promised, rng, rate=task.rate))


def batches(n: int, rate: float, steps: int, rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """Yield Poisson samples: each has each of n images independently with probability ``rate``."""
    at_once = max(1, _TOSSES // max(n, 1))
    for first in range(0, steps, at_once):
        for tosses in rng.random((min(at_once, steps - first), n)) < rate:
            yield np.flatnonzero(tosses)


class ClippedGradients:
    """Gradients of images (n, d) of classes (n,), each clipped to the norm ``clip``.

    An image adds nothing if its features or scores are not finite, or their norm is not.
    """

    def __init__(self, x: Features, y: Labels, clip: float) -> None:
        self._x, self._y = x, y
        self._clip = np.float32(clip) * _MARGIN

    def sum(
        self, weights: NDArray[np.float32], bias: NDArray[np.float32], rows: NDArray[np.intp], factor: float,
        dw: NDArray[Any], db: NDArray[Any],
    ) -> None:  # fmt: skip
        """Write ``factor`` · Σ gradients of the images ``rows`` into ``dw`` (C, d) and ``db`` (C,).

        They are summed in the dtype of these.
        """
        xb = self._x.take(rows, axis=0)
        residuals = np.matvec(weights, xb)
        residuals += bias
        residuals -= residuals.max(1, keepdims=True)
        np.exp(residuals, out=residuals)
        residuals /= residuals.sum(1, keepdims=True)
        residuals[np.arange(len(rows)), self._y[rows]] -= 1
        norms = np.sqrt((np.vecdot(residuals, residuals) + _UNDERFLOW) * (np.vecdot(xb, xb) + 1))
        residuals *= (np.float32(factor) * np.minimum(1, self._clip / norms))[:, None]
        if not (finite := np.isfinite(norms)).all():
            residuals[~finite] = 0
            xb[~finite] = 0
        residuals, xb = residuals.astype(dw.dtype, copy=False), xb.astype(dw.dtype, copy=False)
        np.matmul(residuals.T, xb, out=dw)
        np.sum(residuals, 0, out=db)


def _parts(flat: NDArray[Any], head: Arrays) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return views of weights (C, d) and bias (C,) in one array, so that one call changes both."""
    d, classes = head[0].shape
    return flat[: d * classes].reshape(classes, d), flat[d * classes :]
