"""Fed3R: ridge regression; with ``lda``, linear discriminant analysis from the same sums.

Fanì et al. 2024, "Accelerating Heterogeneous Federated Learning with Closed-form Classifiers"
(arXiv 2406.01116): sites send G_k = Σ z zᵀ and B_k = Σ z yᵀ with z = [x; 1] and y one-hot.
W = (G + λI)⁻¹ B is the ridge regression on all images together, whatever the partition. Its last
row, the bias, is penalised like every other.

LDA (Hastie et al., "The Elements of Statistical Learning", 4.3) from the same sums, as in FedCGS
(arXiv 2503.06962) and GH-OFL (arXiv 2602.01186): with the scatter within classes
S = Σ x xᵀ - Σ_c N_c μ_c μ_cᵀ and Σ = (S + λI) / N,
W_c = Σ⁻¹ μ_c and b_c = -½ μ_cᵀ Σ⁻¹ μ_c + log(N_c / N).

Under differential privacy (DP-Fed3R) sites send G and B of clipped features x, with noise and
without the 1 for a bias. On CIFAR-10 a head without it is up to 1.7 points better, since a 1 takes
half of the norm bound of an image. G is made positive semidefinite again, at no privacy cost: its
eigenvalues below 0 are noise. The noise on G is a symmetric Gaussian matrix of deviation σ on the
diagonal and σ/√2 off it, whose eigenvalues fill a semicircle (Wigner 1958) up to ±σ√(2d). If the
config has no λ, it is their standard deviation, half of that: a direction above the noise remains,
and one that is only noise is damped.
"""

from collections.abc import Sequence

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.privacy.closed_form import gram_matrix
from fedtransfer.common.wire.protocol import Sums
from fedtransfer.common.wire.sums import unpack_triangle
from fedtransfer.server.strategies.one_shot import Matrix, added, by_ridge, head, solved
from fedtransfer.server.strategies.strategy import OneShotHead


def solve(sums: Sequence[Sums], config: RunConfig) -> dict[float, Arrays]:
    """Return λ → head, for the config's λ or a grid. A class without images is never predicted.

    Raises:
        UserError: λ is too small for the matrix to be positive definite.
    """
    packed, right = added(sums)
    gram = unpack_triangle(packed)
    return _discriminants(gram, right, config) if config.lda else _ridge_regressions(gram, right, config)


def solve_noisy(sums: Sequence[Sums], config: RunConfig, deviation: float) -> tuple[float, Arrays]:
    """Return λ, and the head of noisy sums under it, without bias.

    Args:
        sums: the sites'.
        config: its λ, or 0 for that of the noise.
        deviation: σ, standard deviation of the noise on the sites' total.
    """
    vector, right = added(sums)
    values, vectors = np.linalg.eigh(gram_matrix(vector))
    ridge = config.ridge or deviation * np.sqrt(len(values) / 2)
    weights = vectors @ (vectors.T @ right / (np.maximum(values, 0) + ridge)[:, None])
    longest = min(1.0, config.clip)  # of features in the sums; those that the head sees have length 1
    return float(ridge), ((longest * weights).astype(np.float32), np.zeros(right.shape[1], np.float32))


def _ridge_regressions(gram: Matrix, right: Matrix, config: RunConfig) -> dict[float, Arrays]:
    def regression(ridge: float) -> Arrays:
        weights = solved(gram, ridge, right)
        return head(weights[:-1], weights[-1], right[-1])

    return by_ridge(config, regression)


def _discriminants(gram: Matrix, right: Matrix, config: RunConfig) -> dict[float, Arrays]:
    totals, images = right[:-1], right[-1]
    here = np.maximum(images, 1)  # a class without images has no mean; it is left out in the end
    means = totals / here
    within = gram[:-1, :-1] - means @ totals.T
    n = images.sum()

    def discriminant(ridge: float) -> Arrays:
        weights = n * solved(within, ridge, means)
        return head(weights, -0.5 * (means * weights).sum(0) + np.log(here / n), images)

    return by_ridge(config, discriminant)


FED3R = OneShotHead(solve, solve_noisy)
