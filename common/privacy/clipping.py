"""Clipping: no unit, whatever it holds, changes a sum by more than the clip norm."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = tuple[NDArray[np.float64], ...]


def norm(arrays: Sequence[NDArray[Any]]) -> float:
    """Return the Euclidean norm of all arrays together, in float64.

    The norm is not finite if an entry is not, or on overflow.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        largest = float(np.max([np.abs(array).max(initial=0.0) for array in arrays], initial=0.0))  # NaN wins
        if not 0 < largest < np.inf:
            return largest
        return largest * float(np.sqrt(sum(np.square(array / np.float64(largest)).sum() for array in arrays)))


def clipped(arrays: Sequence[NDArray[Any]], bound: float) -> Arrays:
    """Scale arrays to a joint norm of at most ``bound``, up to rounding.

    Return zeros if ``norm`` is not finite.
    """
    size = norm(arrays)
    if not np.isfinite(size):
        return tuple(np.zeros(array.shape) for array in arrays)
    if size <= bound:
        return tuple(array.astype(np.float64) for array in arrays)
    return tuple(array / np.float64(size) * bound for array in arrays)


def clipped_rows(x: NDArray[np.floating[Any]], bound: float) -> NDArray[np.float64]:
    """Scale each row of x (n, d) to a norm of at most ``bound``, in float64.

    A row that is not finite becomes zeros.
    """
    x = np.where(np.isfinite(x).all(1, keepdims=True), x, 0).astype(np.float64)
    largest = np.maximum(np.abs(x).max(1, keepdims=True, initial=0.0), np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):
        sizes = largest * np.linalg.norm(x / largest, axis=1, keepdims=True)
    return np.where(sizes <= bound, x, x / np.maximum(sizes, np.finfo(np.float64).tiny) * bound)
