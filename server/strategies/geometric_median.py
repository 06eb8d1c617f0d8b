"""Geometric medians: the point with the smallest sum of distances to several points.

Fewer than half of the points cannot drive it away from the others (Lopuhaä and Rousseeuw 1991): if
f of K lie anywhere, it is at most 2 (K - f) / (K - 2f) times as far from any place as the farthest
of the others. It turns with the points, and does not depend on their order.

Weiszfeld's algorithm 1937, smoothed as in RFA (Pillutla, Kakade and Harchaoui 2019,
"Robust Aggregation for Federated Learning", arXiv 1912.13445).
"""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
STEPS, PRECISION = 1000, 1e-10  # the most steps; and the length of a last step, of the points' distances


def geometric_median(points: Matrix) -> Matrix:
    """Return the geometric median (p,) of points (K, p), each of which counts once."""
    centre = np.median(points, axis=0)  # is not far off, however far some of the points are
    distances = np.linalg.norm(points - centre, axis=1)
    size = float(np.median(distances)) or float(distances.mean())
    if not size:
        return np.asarray(centre)
    apart = (points - centre) / size
    median = np.zeros(points.shape[1])
    for _ in range(STEPS):
        weights = 1 / np.maximum(np.linalg.norm(apart - median, axis=1), PRECISION)
        following = weights @ apart / weights.sum()
        moved, median = float(np.linalg.norm(following - median)), following
        if moved < PRECISION:
            break
    return np.asarray(centre + size * median)
