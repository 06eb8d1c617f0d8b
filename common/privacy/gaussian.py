"""The Gaussian mechanism (Dwork and Roth 2014, section 3.5.3): equal noise on all entries.

Noise and sum are float64. The low bits of such numbers reveal a little about the sum (Mironov
2012), which is not accounted for; ``fedtransfer.common.privacy.discrete`` is free of this.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.privacy.clipping import Arrays


def noised(arrays: Sequence[NDArray[Any]], deviation: float, rng: np.random.Generator) -> Arrays:
    """Return arrays of any shapes plus independent Gaussian noise on each entry, in float64.

    Args:
        arrays: a sum over clipped units. The sum over no unit is zeros, and gets the same noise.
        deviation: standard deviation of the noise, in the unit of the arrays.
        rng: source of the noise; a secret one (``fedtransfer.common.privacy.randomness``) outside
            tests.

    Raises:
        ValueError: the deviation is negative, infinite or NaN.
    """
    if not 0 <= deviation < np.inf:
        raise ValueError(f"deviation of noise: got {deviation}; expected a number of at least 0")
    return tuple(array + deviation * rng.standard_normal(array.shape) for array in arrays)
