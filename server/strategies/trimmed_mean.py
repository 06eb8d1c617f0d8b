"""Coordinate-wise trimmed mean.

Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates"
(arXiv 1803.01498): in each entry the share β of the sites is left out at either end, and the rest
averaged. Every site counts once, whatever its size. The server then steps as in FedAvg.
"""

import math
from collections.abc import Sequence

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.server.strategies.fedavg import start, step
from fedtransfer.server.strategies.strategy import Contribution, Delta, Strategy


def combine(contributions: Sequence[Contribution], config: RunConfig) -> Delta:
    """Average K deltas without the ⌈βK⌉ largest and smallest, by entry (small K: the median)."""
    number = len(contributions)
    cut = min(math.ceil(config.trim * number), (number - 1) // 2)
    deltas = zip(*(contribution.delta for contribution in contributions), strict=True)
    return tuple(np.sort(arrays, axis=0)[cut : number - cut].mean(axis=0) for arrays in deltas)


TRIMMED_MEAN = Strategy(start, combine, step)
