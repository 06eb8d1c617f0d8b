"""Closed-form sums over a site's training images, for one-shot heads and feature moments.

They are exact whatever images other sites have, in the layout of ``fedtransfer.common.wire.sums``.
Images are summed a few thousand at a time, so memory does not grow with their number.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.client.training.trainer import Features, Labels
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import SiteError
from fedtransfer.common.privacy.closed_form import gram_vector, site_deviation
from fedtransfer.common.privacy.gaussian import clipped_rows, noised
from fedtransfer.common.wire.sums import KINDS, NOISY_GRAM, add_square, one_shot_sums, pack_triangle

BLOCK = 4096  # images at a time, cast to float64: 64 MB at d = 2048
FEW = 16  # images up to which G is summed image by image: a square matrix costs more than they do

Arrays = tuple[NDArray[Any], ...]


def site_sums(statistic: str, x: Features, y: Labels, classes: int) -> Arrays:
    """Return sums over a site's images: features (n, d), class numbers (n,) of C = ``classes``.

    ``statistic`` is ``classes``, ``gram`` or ``moments``.

    Raises:
        SiteError: the statistic is unknown.
    """
    if statistic not in _SUMS:
        raise SiteError("unknown-sums", f"asked for the sums {statistic!r}, expected {' or '.join(KINDS)}")
    return _SUMS[statistic](x, y, classes)


def released_sums(
    x: Features, y: Labels, classes: int, config: RunConfig, rng: np.random.Generator
) -> Arrays:
    """Return a site's sums under differential privacy of its images, for the run's one-shot head.

    A site without images sends noise like any other. With shared noise the sums are in float64 and
    without noise: they may leave the site only after its share of noise is added.

    Features (n, d) are as heads see them; ``classes`` is the number that the run declares. Outside
    tests the ``rng`` of the noise is a secret one (``fedtransfer.common.privacy.gaussian``).
    """
    sums = clipped_sums(one_shot_sums(config), x, y, classes, config.clip)
    if config.noise == "shared":
        return sums
    return tuple(array.astype(np.float32) for array in noised(sums, site_deviation(config), rng))


def clipped_sums(statistic: str, x: Features, y: Labels, classes: int, clip: float) -> Arrays:
    """Return ``noisy classes`` or ``noisy gram``: sums of features, norm ≤ ``clip``, before noise.

    Longer features are clipped; a row with NaN or infinity counts as zeros. Sums are float64;
    ``fedtransfer.common.privacy.closed_form.sensitivity`` bounds how much one image changes them.
    """
    d = x.shape[1]
    gram, by_class = np.zeros((d, d)), np.zeros((classes, d))
    for rows in _blocks(len(x)):
        block = clipped_rows(x[rows], clip)
        by_class += _by_class(block, y[rows], classes)
        if statistic == NOISY_GRAM:
            gram += block.T @ block
    return (gram_vector(gram), by_class.T) if statistic == NOISY_GRAM else (by_class,)


def _classes(x: Features, y: Labels, classes: int) -> Arrays:
    return _by_class(x, y, classes).astype(np.float32), np.bincount(y, minlength=classes).astype(np.int64)


def _gram(x: Features, y: Labels, classes: int) -> Arrays:
    by_class = np.vstack([_by_class(x, y, classes).T, np.bincount(y, minlength=classes)])
    return _packed_gram(x), by_class


def _packed_gram(x: Features) -> NDArray[np.float64]:
    """Return G = Σ z zᵀ with z = [x; 1], its upper triangle row by row."""
    d = x.shape[1]
    z = np.ones((min(len(x), BLOCK), d + 1))
    if len(x) <= FEW:
        z[:, :d] = x
        packed = np.zeros((d + 1) * (d + 2) // 2)
        for row in z:
            add_square(packed, row)
        return packed
    gram = np.zeros((d + 1, d + 1))
    for rows in _blocks(len(x)):
        block = z[: len(x[rows])]
        block[:, :d] = x[rows]
        gram += block.T @ block  # a matrix times its transpose: BLAS computes one half and mirrors it
    return pack_triangle(gram)


def _moments(x: Features, y: Labels, classes: int) -> Arrays:
    moments = np.zeros((2, x.shape[1]))
    for rows in _blocks(len(x)):
        block = x[rows].astype(np.float64)
        moments += np.stack([block.sum(0), np.square(block).sum(0)])
    return (moments,)


def _by_class(x: NDArray[np.floating[Any]], y: Labels, classes: int) -> NDArray[np.float64]:
    """Return the sums of features by class, (C, d)."""
    sums = np.zeros((classes, x.shape[1]))
    for rows in _blocks(len(x)):
        block, labels = x[rows].astype(np.float64), y[rows]
        for c in np.unique(labels):
            sums[c] += block[labels == c].sum(0)
    return sums


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, n, BLOCK))


_SUMS = {"classes": _classes, "gram": _gram, "moments": _moments}
