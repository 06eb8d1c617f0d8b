"""Linear discriminant analysis of medians: a one-shot head that a minority of sites cannot bend.

Updates of sites with unequal classes differ so much that hostile ones hide among them. Images of
one class do not: whatever the shares of classes, sites agree on where a class is and on how its
images scatter, as long as they have the same kind of images. So the head is that of LDA (Hastie et
al., "The Elements of Statistical Learning", 4.3),

    W_c = Σ⁻¹ μ_c,  b_c = -½ μ_cᵀ Σ⁻¹ μ_c,

where μ_c is the geometric median of the sites' means of class c, and Σ that of their scatter within
classes, an image, with λI / N added. All classes count the same: numbers of images are what a
site says. Per class, fewer than half of the sites that have it cannot drive its mean anywhere.
"""

from collections.abc import Sequence

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.wire.protocol import Sums
from fedtransfer.common.wire.sums import pack_triangle, unpack_triangle
from fedtransfer.server.strategies.geometric_median import geometric_median
from fedtransfer.server.strategies.one_shot import Matrix, by_ridge, head, solved
from fedtransfer.server.strategies.strategy import OneShotHead


def solve(sums: Sequence[Sums], config: RunConfig) -> dict[float, Arrays]:
    """Return λ → head, for the config's λ or a grid. A class without images is never predicted.

    Raises:
        UserError: λ is too small for the scatter to be positive definite.
    """
    images = np.array([site.arrays[1][-1] for site in sums])  # (K, C)
    site_means = np.array([_means(site) for site in sums])  # (K, C, d)
    here = images.any(0)
    means = np.zeros(site_means.shape[1:])
    for c in np.flatnonzero(here):
        means[c] = geometric_median(site_means[images[:, c] > 0, c])
    # A site with no more images than classes has nothing that scatters.
    scatters = [_scatter(*pair) for pair in zip(sums, site_means, strict=True) if _free(pair[0])]
    n, within = images.sum(), np.zeros((means.shape[1], means.shape[1]))
    if scatters:
        within = n * unpack_triangle(geometric_median(np.array(scatters)))

    def discriminant(ridge: float) -> Arrays:
        weights = n * solved(within, ridge, means.T)
        return head(weights, -0.5 * (means.T * weights).sum(0), here)

    return by_ridge(config, discriminant)


def _means(site: Sums) -> Matrix:
    """Return a site's class means (C, d), zeros for classes that it lacks."""
    right = site.arrays[1]
    return np.asarray((right[:-1] / np.maximum(right[-1], 1)).T)


def _scatter(site: Sums, means: Matrix) -> Matrix:
    """Return how a site's images scatter about class means, an image, as a packed triangle."""
    packed, right = site.arrays
    within = unpack_triangle(packed)[:-1, :-1] - means.T @ right[:-1].T
    return pack_triangle(within) / _free(site)


def _free(site: Sums) -> float:
    """Return a site's images less its classes, each of which takes one image to place."""
    images = site.arrays[1][-1]
    return float(images.sum() - np.count_nonzero(images))


ROBUST_LDA = OneShotHead(solve)
