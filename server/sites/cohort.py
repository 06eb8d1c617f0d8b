"""Who takes part in a round: drawn by site name, from a generator keyed by (seed, round)."""

from collections.abc import Iterable

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.seeds import generator


def cohort_size(sites: int, config: RunConfig) -> int:
    """Return how many of the sites that can train take part in a round: a number, or a share (at least one)."""
    return config.cohort_size or max(1, round_half_up(config.fraction * sites))


def draw_cohort(sites: Iterable[str], size: int, config: RunConfig, round: int, attempt: int = 1) -> tuple[str, ...]:
    """Draw ``size`` sites without replacement, in name order; all where there are no more.

    With Poisson sampling each site comes by its own draw with probability ``fraction``, which may leave none. The draw
    depends on the set of names, the seed, the round and the attempt only, so it is the same on every engine. A round
    that is tried again draws anew.
    """
    names = sorted(sites)
    rng = generator(config.seed, "cohort", round, *([] if attempt == 1 else [attempt]))
    if config.sampling == "poisson":
        return tuple(name for name, draw in zip(names, rng.random(len(names)), strict=True) if draw < config.fraction)
    chosen = rng.choice(len(names), min(size, len(names)), replace=False)
    return tuple(names[i] for i in sorted(chosen))


def draw_secretly(sites: Iterable[str], rate: float, rng: np.random.Generator) -> tuple[str, ...]:
    """Draw each site by itself with probability ``rate``, in name order: nobody may repeat it, unlike ``draw_cohort``."""
    names = sorted(sites)
    return tuple(name for name, draw in zip(names, rng.random(len(names)), strict=True) if draw < rate)


def round_half_up(value: float) -> int:
    """Round to the nearest whole number, halves up (Python's ``round`` takes them to even)."""
    return int(value + 0.5)


def quorum(asked: int, min_sites: int) -> int:
    """Return how many of the sites asked must give a usable answer: ``min_sites``, or half of them where that is 0."""
    return min_sites or (asked + 1) // 2
