"""The schedule of the sites' learning rate over the rounds."""

import math

from fedtransfer.common.config.config import RunConfig


def rate(config: RunConfig, round: int) -> float:
    """Return the factor on the learning rate in a round (1, 2, …).

    In warm-up round r of W it is r / (W + 1), so round W + 1 is the first with the full rate. Then
    it falls by ``config.schedule`` to ``final_rate`` in the last round, ``config.rounds``, and
    stays there.
    """
    first = config.warmup_rounds + 1
    if round < first:
        return round / first
    passed = min((round - first) / (config.rounds - first), 1.0) if config.rounds > first else 0.0
    final = config.final_rate
    match config.schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1 - (1 - final) * passed
        case "cosine":
            return final + (1 - final) * (1 + math.cos(math.pi * passed)) / 2
        case "exponential":
            return float(final**passed)
