"""Geometric medians: the point with the smallest sum of distances to several points.

Fewer than half of the points cannot drive it away from the others (Lopuhaä and Rousseeuw 1991): if
f of K lie anywhere, it is at most 2 (K - f) / (K - 2f) times as far from any place as the farthest
of the others. It turns with the points, and does not depend on their order.

Weiszfeld's algorithm 1937, smoothed as in RFA (Pillutla, Kakade and Harchaoui 2019,
"Robust Aggregation for Federated Learning", arXiv 1912.13445). It needs the points' inner products
alone, so a step costs K² whatever their width.
"""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
_STEPS = 1000  # the most
_PRECISION = 1e-9  # of weights; and the shortest distance, over the points' median one


def geometric_median(points: Matrix) -> Matrix:
    """Return the geometric median (p,) of points (K, p), each of which counts once."""
    centre = np.median(points, axis=0)  # is not far off, however far some of the points are
    apart = points - centre
    products = apart @ apart.T
    squares = np.diag(products)
    size = np.median(squares)
    if not size:  # most of the points are there
        return np.asarray(centre)
    weights = np.full(len(points), 1 / len(points))
    for _ in range(_STEPS):
        shares = products @ weights
        nearest = np.maximum(squares - 2 * shares + weights @ shares, _PRECISION**2 * size)
        following = 1 / np.sqrt(nearest)
        following /= following.sum()
        change, weights = np.abs(following - weights).max(), following
        if change < _PRECISION:
            break
    return np.asarray(centre + weights @ apart)
