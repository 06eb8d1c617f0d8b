"""One release of noisy sums of features, which give a head in closed form: DP-FedNCM and DP-Fed3R.

Sums of bounded features with Gaussian noise are "sufficient statistics perturbation" (Vu and
Slavkovic 2009; for ridge regression Wang 2018, arXiv 1803.02596, which increases λ according to the
noise on G).

With x (d,) the features of an image, clipped to a norm of c, and y its class, one-hot, an image
adds

- x yᵀ to the sums by class, of norm at most c;
- x xᵀ to the Gram matrix, of Frobenius norm at most c², together with x yᵀ: at most √(c⁴ + c²).

The Gram matrix travels as a vector with the same norm: its upper triangle, with entries off the
diagonal times √2. So equal noise on the vector's entries is a symmetric matrix of noise, whose
deviation off the diagonal is 1/√2 of that on it.
"""

import math

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.common.wire.sums import (
    NOISY_CLASSES,
    NOISY_GRAM,
    one_shot_sums,
    pack_triangle,
    unpack_triangle,
)


def sensitivity(kind: str, clip: float) -> float:
    """Return the largest norm by which one image, added or removed, changes a site's noisy sums.

    ``clip`` is c, the clip norm of an image's features.
    """
    return {NOISY_CLASSES: clip, NOISY_GRAM: math.hypot(clip**2, clip)}[kind]


def site_deviation(config: RunConfig) -> float:
    """Return the standard deviation of the noise of one site, or of all shares together."""
    promised = guarantee(config)
    assert promised
    return promised.noise_multiplier * sensitivity(one_shot_sums(config), promised.clip)


def total_deviation(config: RunConfig, sites: int) -> float:
    """Return the standard deviation of the noise on the total over ``sites``."""
    shares = config.honest_sites if config.noise == "shared" else 1
    return site_deviation(config) * math.sqrt(sites / shares)


def gram_vector(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a symmetric matrix (d, d) as a vector (d(d+1)/2,) of the same norm."""
    return pack_triangle(gram * _weights(len(gram)))


def gram_matrix(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the symmetric matrix (d, d) of a vector from ``gram_vector``."""
    matrix = unpack_triangle(vector)
    return matrix / _weights(len(matrix))


def _weights(size: int) -> NDArray[np.float64]:
    weights = np.full((size, size), math.sqrt(2))
    np.fill_diagonal(weights, 1.0)
    return weights
