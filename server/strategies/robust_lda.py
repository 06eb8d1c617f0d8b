"""Robust LDA: a one-shot head that a minority of hostile sites hardly bends.

Updates of sites with unequal classes differ so much that hostile ones hide among them. Images of
one class do not: whatever the shares of the classes, the means of n images of a class are apart by
the scatter of images over n, and so are sites' estimates of that scatter. The head is that of LDA
(Hastie et al., "The Elements of Statistical Learning", 4.3),

    W_c = Σ⁻¹ μ_c,  b_c = -½ μ_cᵀ Σ⁻¹ μ_c,

of means over the sites that agree with the geometric median (``geometric_median.py``):

1. A site's class mean of n images should be off the median by a variance of v = tr Σ / n + δ²,
   where δ² is what the median site is off beyond tr Σ / n: sites may have different images.
2. A class mean that is off by more than LIMIT · v in square is left out. So is a site that is off
   by more than SITE_LIMIT · v, in the mean over its classes: noise averages out, lies do not.
3. The others are averaged by 1 / v, as in a random-effects meta-analysis (DerSimonian and Laird
   1986). So a site that claims more images must be nearer to the median.

Σ is made in the same way, of the sites' scatter within classes, n images of which are off by
(tr Σ)² + tr Σ² over n, as under a Gaussian distribution; λI / N is added. All classes count the
same: numbers of images are what sites say of themselves.
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

LIMIT, SITE_LIMIT = 1.5**2, 1.2**2


def solve(sums: Sequence[Sums], config: RunConfig) -> dict[float, Arrays]:
    """Return λ → head, for the config's λ or a grid. A class without images is never predicted.

    Raises:
        UserError: λ is too small for the scatter to be positive definite.
    """
    images = np.array([site.arrays[1][-1] for site in sums])  # (K, C)
    site_means = np.array([site.arrays[1][:-1].T for site in sums]) / np.maximum(images, 1)[:, :, None]
    scatter = _scatter(sums, site_means, images)
    means = _means(site_means, images, float(np.trace(scatter)))
    n = images.sum()

    def discriminant(ridge: float) -> Arrays:
        weights = n * solved(n * scatter, ridge, means.T)
        return head(weights, -0.5 * (means.T * weights).sum(0), images.sum(0))

    return by_ridge(config, discriminant)


def distances(points: Matrix, median: Matrix, images: Matrix, noise: float) -> tuple[Matrix, Matrix]:
    """Return how far points are from their median, and how far they should be.

    Args:
        points: (K, p), each a mean over some images.
        median: their geometric median (p,).
        images: their numbers (K,).
        noise: the variance of a point of one image.

    Returns:
        Squares of distances over their variances, and these variances, (K,).
    """
    squares = np.square(points - median).sum(1)
    between = np.median(np.maximum(squares - noise / images, 0))
    variances = np.maximum(noise / images + between, np.finfo(np.float64).tiny)
    return squares / variances, variances


def _means(site_means: Matrix, images: Matrix, noise: float) -> Matrix:
    """Return the class means (C, d) of the sites that agree; zeros for a class without images."""
    there = images > 0
    far, variances, medians = np.zeros(images.shape), np.ones(images.shape), np.zeros(site_means.shape[1:])
    for c in np.flatnonzero(there.any(0)):
        holders = there[:, c]
        medians[c] = geometric_median(site_means[holders, c])
        far[holders, c], variances[holders, c] = distances(
            site_means[holders, c], medians[c], images[holders, c], noise
        )
    sites = far.sum(1) <= SITE_LIMIT * there.sum(1)
    agreeing = there & (far <= LIMIT) & sites[:, None]
    weights = agreeing / variances
    return np.array([_mean(site_means[:, c], weights[:, c], median) for c, median in enumerate(medians)])


def _scatter(sums: Sequence[Sums], site_means: Matrix, images: Matrix) -> Matrix:
    """Return the scatter of an image within its class, (d, d), of the sites that agree."""
    d = site_means.shape[2]
    free = images.sum(1) - np.count_nonzero(images, axis=1)  # a class takes one image to place
    sides = pack_triangle(np.sqrt(2 - np.eye(d)))  # so that triangles are as far apart as matrices
    rows = []
    for k in np.flatnonzero(free).tolist():
        gram = unpack_triangle(sums[k].arrays[0])[:-1, :-1]
        within = gram - site_means[k].T @ (images[k][:, None] * site_means[k])
        rows.append(sides * pack_triangle(within) / free[k])
    if not rows:
        return np.zeros((d, d))
    points = np.array(rows)
    median = geometric_median(points)
    noise = np.trace(unpack_triangle(median / sides)) ** 2 + median @ median
    far, variances = distances(points, median, free[free > 0], float(noise))
    return unpack_triangle(_mean(points, (far <= LIMIT) / variances, median) / sides)


def _mean(points: Matrix, weights: Matrix, median: Matrix) -> Matrix:
    """Return the weighted mean of points, or their median if none has a weight."""
    return np.asarray(weights @ points / weights.sum()) if weights.any() else median


ROBUST_LDA = OneShotHead(solve)
