"""FedCOF: covariances from nothing but class means.

Goswami et al. 2025, "Covariances for Free: Exploiting Mean Distributions for Training-free
Federated Learning" (arXiv 2412.14326): the mean of n images scatters n times less than an image
does. So the K_c sites that have class c tell its covariance by how their means of it differ,

    Σ_c = 1 / (K_c - 1) · Σ_k n_kc (μ_kc - μ_c)(μ_kc - μ_c)ᵀ,

and the head is W = G⁻¹ B with G = Σ_c (N_c - 1) Σ_c + λI and B = Σ x yᵀ, its columns scaled to
length 1, without bias. λ is the paper's γ · (N - C); the scatter between classes is left out, as
the paper argues. A class that one site alone has adds nothing to G.

The server must see each site's own class means, so masks, which hide all but sums, rule it out.
"""

from collections.abc import Sequence

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.wire.protocol import Sums
from fedtransfer.server.strategies.fedncm import class_means
from fedtransfer.server.strategies.one_shot import Matrix, added, by_ridge, head, solved, unit_columns
from fedtransfer.server.strategies.strategy import OneShotHead


def within_scatter(sums: Sequence[Sums]) -> Matrix:
    """Return Σ_c (N_c - 1) Σ_c, (d, d): the images' scatter about class means, from site means."""
    means = class_means(sums)
    scatter = np.zeros((means.shape[1], means.shape[1]))
    for c, mean in enumerate(means):
        holders = [site for site in sums if site.arrays[1][c]]
        if len(holders) < 2:
            continue
        images = np.array([site.arrays[1][c] for site in holders])
        site_means = np.stack([site.arrays[0][c] for site in holders]) / images[:, None]
        apart = np.sqrt(images)[:, None] * (site_means - mean)
        scatter += (images.sum() - 1) / (len(holders) - 1) * (apart.T @ apart)
    return scatter


def solve(sums: Sequence[Sums], config: RunConfig) -> dict[float, Arrays]:
    """Return λ → head, for the config's λ or a grid. A class without images is never predicted.

    Raises:
        UserError: λ is too small for G to be positive definite.
    """
    totals, images = added(sums)
    scatter = within_scatter(sums)

    def regression(ridge: float) -> Arrays:
        return head(unit_columns(solved(scatter, ridge, totals.T)), np.zeros(len(images)), images)

    return by_ridge(config, regression)


FEDCOF = OneShotHead(solve)
