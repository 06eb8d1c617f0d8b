"""What a curious server reads off what a site sends: numbers of images by class, sums of features.

With p the softmax of a linear head and y one-hot labels, the gradient of the mean cross-entropy is
mean (p - y) by the bias and mean (p - y) xᵀ by the kernel. So T steps of rate r change bias and
kernel by r T times

    π_c - Σ_k P_kc π_k    and    s_c - Σ_k P_kc s_k,

where π_k is the share of images of class k, s_k the sum of their features over n, and P_kc what
they were given for class c, in the mean over the steps. For one step from a head of zeros
P_kc = 1/C, and both can be solved for exactly: a class with one image gives away that image's
features. After more steps P is what training on the class means themselves would have it be, found
together with π and s as a fixed point. Reading labels off a classifier's last layer: iDLG (arXiv
2001.02610) and iLRG (Ma et al., ICLR 2023) for one step; RLU (arXiv 2405.00955) for several.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

Matrix = NDArray[np.float64]

_TINY = float(np.finfo(np.float64).tiny)
_ITERATIONS = 100  # of the fixed point
_CHANGE = 1e-4  # of a share, below which it is reached
_ALIKE = (
    0.5  # cosine of two images of a class, on public ones and the bundled backbone: 0.45 to 0.57 by class
)


@dataclass(frozen=True)
class Recovered:
    """What was read off."""

    counts: Matrix  # estimated number of images by class, (C,); not rounded
    sums: Matrix  # estimated sum of features by class, (C, d); next to zeros without images

    @property
    def directions(self) -> Matrix:
        """The sums, scaled to length 1 (C, d): mean features, as far as their direction goes."""
        return unit_rows(self.sums)


def from_update(
    head: tuple[NDArray[Any], ...], change: tuple[NDArray[Any], ...], images: float, rate: float, steps: int
) -> Recovered:
    """Read class counts and sums of features off the change of a softmax head by plain SGD.

    Features are of length 1. The sums share one unknown, the mean feature. Where a class has no
    image it follows from that; else it makes class means most alike. Batches are taken to be of
    one size: images of a smaller last one weigh more; then counts are read badly, features fairly.

    Args:
        head: kernel (d, C) and bias (C,) that were sent out.
        change: of kernel and bias, in the mean over images (not times n).
        images: n, or a guess at it.
        rate: learning rate, times whatever else scaled gradients.
        steps: T.
    """
    kernel, bias = (array.astype(np.float64) for array in head)
    gradient = np.column_stack([change[0].T, change[1]]).astype(np.float64) / (rate * steps)  # (C, d + 1)
    classes = len(bias)
    weights, means = np.full(classes, 1 / classes), np.zeros((classes, len(kernel)))
    for _ in range(_ITERATIONS):
        predicted = _mean_predictions(means @ kernel + bias, means @ means.T + 1, weights, rate, steps)
        shares, sums = _solved(gradient, predicted, images)
        before, size = weights, _mean_length(shares * images)
        # By the lengths of the sums, not by the bias: no class has great weight and no features.
        weights = np.linalg.norm(sums, axis=1) / size
        weights /= max(float(weights.sum()), _TINY)
        means = unit_rows(sums) * _mean_length(weights * images)[:, None]
        if np.abs(weights - before).max() < _CHANGE:
            break
    return Recovered(images * np.maximum(shares, 0) / np.maximum(shares, 0).sum(), images * sums)


def from_sums(by_class: NDArray[Any], counts: NDArray[Any] | None, images: float) -> Recovered:
    """Take sums of features by class (C, d) as they were sent.

    Where numbers of images were not sent, ``images`` of them are shared out by the length of the
    sums: classes are about equally tight.
    """
    sums = by_class.astype(np.float64)
    if counts is not None:
        return Recovered(counts.astype(np.float64), sums)
    lengths = np.linalg.norm(sums, axis=1)
    return Recovered(images * lengths / max(float(lengths.sum()), _TINY), sums)


def gram_directions(gram: Matrix, total: Matrix) -> Matrix:
    """Guess features: eigenvectors (m, d) of a Gram matrix Σ x xᵀ (d, d), largest first.

    That of a site with one image is its feature. Signs are those of features' sum, ``total`` (d,).
    """
    values, vectors = np.linalg.eigh(gram)
    directions = vectors[:, values > 1e-9 * max(float(values[-1]), _TINY)].T[::-1]
    return directions * np.where(directions @ total < 0, -1.0, 1.0)[:, None]


def inside_span(directions: Matrix, features: NDArray[Any]) -> Matrix:
    """Return the share (n,) of features' squared length in the span of orthonormal rows (m, d).

    It is 1 for all features (n, d) in a Gram matrix, less for others if those are fewer than d.
    """
    rows = unit_rows(features.astype(np.float64))
    return np.square(rows @ directions.T).sum(1)


def largest_cosine(guesses: Matrix, features: NDArray[Any]) -> float:
    """Return the largest cosine of any guess (m, d) to any true feature (n, d)."""
    return float((unit_rows(guesses) @ unit_rows(features.astype(np.float64)).T).max())


def unit_rows(rows: Matrix) -> Matrix:
    """Scale rows to length 1; one of zeros stays as it is."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY)


def _mean_length(counts: Matrix) -> Matrix:
    """Return the length of the mean of ``counts`` features of length 1 of one class."""
    counts = np.maximum(counts, 1)
    return np.sqrt((1 + (counts - 1) * _ALIKE) / counts)


def _mean_predictions(scores: Matrix, kernel: Matrix, shares: Matrix, rate: float, steps: int) -> Matrix:
    """Return P (C, C), the mean prediction for class means over the steps of training on them.

    ``scores`` (C, C) are those of class means before the first step; ``kernel`` [μ; 1]ᵀ[μ'; 1]
    (C, C) says how a step on one moves another's; ``shares`` of images by class (C,) weigh them.
    """
    total, identity = np.zeros_like(scores), np.eye(len(scores))
    for _ in range(steps):
        predictions = softmax(scores, axis=1)
        total += predictions
        scores = scores + rate * kernel @ (shares[:, None] * (identity - predictions))
    return total / steps


def _solved(gradient: Matrix, predicted: Matrix, images: float) -> tuple[Matrix, Matrix]:
    """Solve (I - Pᵀ) [s, π] = seen for shares π (C,), which sum to 1, and sums s (C, d).

    With the mean feature m, s + v mᵀ solves it too: v is its one free direction. Where classes are
    absent, m is what makes their sums vanish; else what makes class means most like it.
    """
    classes, width = gradient.shape
    left = np.vstack([np.eye(classes) - predicted.T, np.ones(classes)])
    right = np.zeros((classes + 1, width + 1))
    right[:-1, :-1] = gradient
    right[-1, -2:] = 1  # Σ π, and Σ v
    solution = np.linalg.lstsq(left, right, rcond=None)[0]
    sums, shares, free = solution[:, :-2], solution[:, -2], solution[:, -1]
    absent = shares * images < 0.5
    weights = absent.astype(np.float64) if absent.any() else 1 / np.square(shares)
    towards = free - np.where(absent, 0, shares)
    mean = -(weights * towards) @ sums / max(float(weights @ np.square(towards)), 1e-12)
    return shares, sums + np.outer(free, mean)
