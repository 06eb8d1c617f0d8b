"""Train one softmax layer under differential privacy of images: DP-SGD (Abadi et al. 2016, arXiv 1607.00133), in NumPy.

A step sums the gradients of a Poisson sample of the images, each clipped, and adds Gaussian noise; whatever batch was
drawn, it divides by the same public number. The gradient of one image is (p - y) ⊗ [x; 1], of norm
‖p - y‖ · √(‖x‖² + 1), so it is clipped without ever being made.

Who sends the head may choose it so that class scores hang on their last bit. What an image adds must then not hang on
which others are in the batch: BLAS rounds a row of a product by how many rows there are, so each image's scores are a product of
their own.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.client.training.trainer import Features, Labels, Recipe
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.privacy.guarantee import Guarantee
from fedtransfer.common.privacy.noise import NoiseSource

_LOST = np.float32(1e-30)  # more than squares too small for float32 add up to, and less than tells beside others
_MARGIN = np.float32(1 - 1e-5)  # of the bound, for what is rounded in float32
_TOSSES = 2**14  # at once: each call into NumPy may have to wait for another thread


def train_privately(
    head: Arrays,
    x: Features,
    y: Labels,
    recipe: Recipe,
    promised: Guarantee,
    rng: np.random.Generator,
    *,
    rate: float = 1.0,
) -> Arrays:
    """Return ``head`` after a round's noisy steps on features (n, d) and class numbers (n,); each is one release.

    Args:
        head: kernel (d, C) and bias (C,); may be chosen by an adversary.
        x, y: the images; n may be 0.
        recipe: plain SGD; what a batch is divided by; weight decay, FedProx' pull and label smoothing.
        promised: the number of steps, the chance of each image to be in a batch, the norm that its gradient is clipped to,
            and the standard deviation of the noise on a sum over that norm.
        rng: draws batches and noise; ``secret_generator()`` outside tests.
        rate: share of the recipe's learning rate that holds.
    """
    step = recipe.learning_rate * rate
    by = step / recipe.batch_size
    pull, decay = np.float32(step * recipe.proximal), np.float32(step * recipe.weight_decay)
    now, change = np.concatenate([head[0].T.ravel(), head[1]]), np.empty(head[0].size + head[1].size, np.float32)
    (weights, bias), (dw, db) = _parts(now, head), _parts(change, head)
    anchor = now.copy() if pull else None
    source = NoiseSource(now.size, promised.noise_multiplier * promised.clip * by, rng, promised.releases)
    with np.errstate(all="ignore"):  # a head that overflows is the server's to refuse
        gradients = ClippedGradients(x, y, promised.clip, recipe.label_smoothing)
        for rows in batches(len(y), promised.release.rate, promised.releases, rng):
            gradients.sum(weights, bias, rows, by, dw, db)
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
    """Return the sum of the clipped gradients of a Poisson sample, shaped as ``head``: what others are yet to put noise on.

    It is in float64, as what is rounded to whole numbers must be (``fedtransfer.common.privacy.discrete``). One image, added or removed,
    changes it by at most ``promised.clip`` in Euclidean norm. The arguments are those of ``train_privately``.
    """
    total = np.empty(head[0].size + head[1].size, np.float64)
    dw, db = _parts(total, head)
    with np.errstate(all="ignore"):
        gradients = ClippedGradients(x, y, promised.clip, recipe.label_smoothing)
        [rows] = batches(len(y), promised.release.rate, 1, rng)
        gradients.sum(head[0].T, head[1], rows, 1.0, dw, db)
    return np.ascontiguousarray(dw.T), db


def batches(n: int, rate: float, steps: int, rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """Yield so many batches, Poisson samples: each of n images is in each of them by its own toss, with chance ``rate``."""
    at_once = max(1, _TOSSES // max(n, 1))
    for first in range(0, steps, at_once):
        for tosses in rng.random((min(at_once, steps - first), n)) < rate:
            yield np.flatnonzero(tosses)


class ClippedGradients:
    """Gradients of images (n, d) of classes (n,), each of a norm of at most ``clip``.

    An image whose features, or scores, are not finite or of no finite norm adds nothing.
    """

    def __init__(self, x: Features, y: Labels, clip: float, smoothing: float) -> None:
        self._x, self._y = x, y
        self._clip, self._smoothing = np.float32(clip) * _MARGIN, smoothing

    def sum(
        self,
        weights: NDArray[np.float32],
        bias: NDArray[np.float32],
        rows: NDArray[np.intp],
        factor: float,
        dw: NDArray[Any],
        db: NDArray[Any],
    ) -> None:
        """Write ``factor`` · Σ of the gradients of the images ``rows`` into ``dw`` (C, d) and ``db`` (C,), whose precision it is added up in."""
        xb = self._x.take(rows, axis=0)
        residuals = np.matvec(weights, xb)
        residuals += bias
        residuals -= residuals.max(1, keepdims=True)
        np.exp(residuals, out=residuals)
        residuals /= residuals.sum(1, keepdims=True)
        residuals[np.arange(len(rows)), self._y[rows]] -= np.float32(1 - self._smoothing)
        if self._smoothing:
            residuals -= np.float32(self._smoothing / len(bias))
        norms = np.sqrt((np.vecdot(residuals, residuals) + _LOST) * (np.vecdot(xb, xb) + 1))
        residuals *= (np.float32(factor) * np.minimum(1, self._clip / norms))[:, None]
        if not (finite := np.isfinite(norms)).all():
            residuals[~finite] = 0
            xb[~finite] = 0
        residuals, xb = residuals.astype(dw.dtype, copy=False), xb.astype(dw.dtype, copy=False)
        np.matmul(residuals.T, xb, out=dw)
        np.sum(residuals, 0, out=db)


def _parts(flat: NDArray[Any], head: Arrays) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the weights (C, d) and the bias (C,) in one array, so that what a step does to both is one call."""
    d, classes = head[0].shape
    return flat[: d * classes].reshape(classes, d), flat[d * classes :]
