"""How certain a share is, and whether a curve still rises."""

import math
from collections.abc import Sequence

import numpy as np


def rising(accuracy: Sequence[float]) -> float:
    """Return by how much the mean accuracy of the last fifth of rounds is above that of the fifth before; 0 unless clearly.

    Clearly is by one point, and by twice the standard error of the difference.

    Args:
        accuracy: before the first round, and after each.
    """
    fifth = (len(accuracy) - 1) // 5
    if fifth < 2:
        return 0.0
    last, before = np.array(accuracy[-fifth:]), np.array(accuracy[-2 * fifth : -fifth])
    rise = float(last.mean() - before.mean())
    error = math.sqrt((last.var(ddof=1) + before.var(ddof=1)) / fifth)
    return rise if rise > max(0.01, 2 * error) else 0.0


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of so many (Wilson 1927)."""
    z = 1.959964
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return middle - half, middle + half
