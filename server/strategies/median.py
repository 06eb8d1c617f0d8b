"""Coordinate-wise median.

Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates"
(arXiv 1803.01498): each entry of the update is the median over sites, so fewer than half cannot
drive it anywhere. Every site counts once, whatever its size. The server then steps as in FedAvg.
"""

from collections.abc import Sequence

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.server.strategies.fedavg import start, step
from fedtransfer.server.strategies.strategy import Contribution, Delta, Strategy


def combine(contributions: Sequence[Contribution], config: RunConfig) -> Delta:
    """Return the median of the sites' deltas, entry by entry."""
    deltas = zip(*(contribution.delta for contribution in contributions), strict=True)
    return tuple(np.median(arrays, axis=0) for arrays in deltas)


MEDIAN = Strategy(start, combine, step)
