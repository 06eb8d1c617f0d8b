"""FedNCM: nearest class means.

Legate et al. 2023, "Guiding The Last Layer in Federated Learning with Pre-Trained Models"
(arXiv 2306.03937): sites send the sum of features of each class and its number of images; the head
is W_c = μ_c / ‖μ_c‖, without bias. On features of length 1 an image so gets the class whose mean is
nearest in angle.

Under differential privacy (DP-FedNCM) sites send the sums alone, of clipped features and with
noise. A sum and a mean have one direction, so numbers of images are not missed; but a class without
images has a direction too, of noise.
"""

from collections.abc import Sequence

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.wire.protocol import Sums
from fedtransfer.server.strategies.one_shot import Matrix, added, head, unit_columns
from fedtransfer.server.strategies.strategy import OneShotHead


def class_means(sums: Sequence[Sums]) -> Matrix:
    """Return each class's mean feature over all sites, (C, d); zeros for one without images."""
    totals, images = added(sums)
    return totals / np.maximum(images, 1)[:, None]


def solve(sums: Sequence[Sums], config: RunConfig) -> dict[float, Arrays]:
    """Return the only head, under 0: it has no λ. A class without images is never predicted."""
    totals, images = added(sums)
    # μ_c and its sum have one direction.
    return {0.0: head(unit_columns(totals.T), np.zeros(len(images)), images)}


def solve_noisy(sums: Sequence[Sums], config: RunConfig, deviation: float) -> tuple[float, Arrays]:
    """Return 0 for λ, and the head of noisy sums, whatever the noise on them is."""
    [totals] = added(sums)
    return 0.0, (unit_columns(totals.T).astype(np.float32), np.zeros(len(totals), np.float32))


FEDNCM = OneShotHead(solve, solve_noisy)
