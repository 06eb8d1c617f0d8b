"""The schedule of the sites' learning rate over the rounds."""

import math

from fedtransfer.common.config.config import RunConfig

FINAL = 0.01  # share of the rate in the last round


def rate(config: RunConfig, round: int) -> float:
    """Return the factor on the learning rate in a round (1, 2, …).

    Under ``cosine`` it falls from 1 in the first round to ``FINAL`` in the last, ``config.rounds``.
    """
    if config.schedule == "constant":
        return 1.0
    passed = min((round - 1) / (config.rounds - 1), 1.0) if config.rounds > 1 else 0.0
    return FINAL + (1 - FINAL) * (1 + math.cos(math.pi * passed)) / 2
