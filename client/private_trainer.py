"""Train one softmax layer under differential privacy of images: DP-SGD (Abadi et al. 2016, arXiv 1607.00133), in NumPy.

A step sums the gradients of a Poisson sample of the images, each clipped, and adds Gaussian noise; whatever batch was
drawn, it divides by the same public number. The gradient of one image is (p - y) ⊗ [x; 1], of norm
‖p - y‖ · √(‖x‖² + 1), so it is clipped without ever being made.

Who sends the head may choose it so that class scores hang on their last bit. What an image adds must then not hang on
which others are in the batch: BLAS rounds a row of a product by how many rows there are, so scores are taken in blocks of a fixed
size.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.trainer import Features, Labels, Recipe
from common.head import Arrays
from common.privacy.guarantee import Guarantee
from common.privacy.noise import NoiseSource

_BLOCK = 8  # rows of a product
_MARGIN = np.float32(1 - 1e-5)  # of the bound, for what is rounded in float32


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
    weights, bias = head[0].T.copy(), head[1].copy()  # (C, d)
    anchors = (weights.copy(), bias.copy()) if pull else None
    source = NoiseSource(weights.size + bias.size, rng, promised.releases)
    with np.errstate(all="ignore"):  # a head that overflows is the server's to refuse
        for _ in range(promised.releases):
            rows = _drawn(len(y), promised, rng)
            dw, db = _sum(weights, bias, x, y, rows, promised.clip, recipe.label_smoothing, by)
            noise = source.draw(promised.noise_multiplier * promised.clip * by)
            dw += noise[: weights.size].reshape(weights.shape)
            db += noise[weights.size :]
            if anchors is not None:  # FedProx
                dw += pull * (weights - anchors[0])
                db += pull * (bias - anchors[1])
            if decay:
                dw += decay * weights
            np.subtract(weights, dw, out=weights)
            np.subtract(bias, db, out=bias)
    return np.ascontiguousarray(weights.T), bias


def clipped_gradient_sum(
    head: Arrays, x: Features, y: Labels, recipe: Recipe, promised: Guarantee, rng: np.random.Generator
) -> Arrays:
    """Return the sum of the clipped gradients of a Poisson sample, shaped as ``head``: what others are yet to put noise on.

    It is in float64, as what is rounded to whole numbers must be (``common.privacy.discrete``). One image, added or removed,
    changes it by at most ``promised.clip`` in Euclidean norm. The arguments are those of ``train_privately``.
    """
    with np.errstate(all="ignore"):
        rows = _drawn(len(y), promised, rng)
        dw, db = _sum(head[0].T.copy(), head[1], x, y, rows, promised.clip, recipe.label_smoothing, 1.0, np.float64)
    return np.ascontiguousarray(dw.T), db


def _drawn(n: int, promised: Guarantee, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw a batch: each of n images by its own draw."""
    return np.flatnonzero(rng.random(n) < promised.release.rate)


def _sum(
    weights: NDArray[np.float32],
    bias: NDArray[np.float32],
    x: Features,
    y: Labels,
    rows: NDArray[np.intp],
    clip: float,
    smoothing: float,
    factor: float,
    precision: type[np.floating[Any]] = np.float32,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return ``factor`` · Σ of the clipped gradients of the images ``rows``, by weights (C, d) and bias (C,); it is added up in ``precision``.

    An image whose features, or scores, are not finite or of no finite norm adds nothing.
    """
    classes, d = weights.shape
    n, blocks = len(rows), -(-len(rows) // _BLOCK)
    filled = np.empty((blocks * _BLOCK, d), np.float32)
    xb = np.take(x, rows, axis=0, out=filled[:n], mode="clip")
    filled[n:] = 0
    residuals = np.matmul(filled.reshape(blocks, _BLOCK, d), weights.T).reshape(-1, classes)[:n]
    residuals += bias
    residuals -= residuals.max(1, keepdims=True)
    np.exp(residuals, out=residuals)
    residuals /= residuals.sum(1, keepdims=True)
    residuals[np.arange(n), y[rows]] -= np.float32(1 - smoothing)
    if smoothing:
        residuals -= np.float32(smoothing / classes)
    norms = np.sqrt(np.vecdot(residuals, residuals) * (np.vecdot(xb, xb) + 1))
    residuals *= np.float32(factor) * np.minimum(1, np.float32(clip) * _MARGIN / norms)[:, None]
    if (nothing := ~np.isfinite(norms)).any():
        residuals[nothing] = 0
        xb[nothing] = 0
    residuals, xb = residuals.astype(precision, copy=False), xb.astype(precision, copy=False)
    return residuals.T @ xb, residuals.sum(0)
