"""Which sites take part in a round: the draw, its quorum, and sites set aside after failures."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.seeds import generator

FAILURES = 3  # in a row, after which a site is set aside …
ROUNDS = 5  # … for this number of rounds


@dataclass(frozen=True)
class FailureRecord:
    """Each site's recent failures."""

    failures: Mapping[str, int] = field(default_factory=dict)  # since the site's last usable answer
    back: Mapping[str, int] = field(default_factory=dict)  # the first round in which it may be drawn again

    def set_aside(self, round: int) -> dict[str, int]:
        """Return the sites not to be drawn in a round → the round in which they may be again."""
        return {site: back for site, back in sorted(self.back.items()) if back > round}

    def after(self, round: int, answered: Iterable[str], failed: Iterable[str]) -> "FailureRecord":
        """Return the record after a round. Answers clear a site; a third failure sets it aside."""
        failures, back = dict(self.failures), dict(self.back)
        for site in answered:
            failures.pop(site, None)
            back.pop(site, None)
        for site in failed:
            failures[site] = failures.get(site, 0) + 1
            if failures[site] >= FAILURES:
                back[site] = round + 1 + ROUNDS
        return FailureRecord(failures, back)


def cohort_size(sites: int, config: RunConfig) -> int:
    """Return the size of a cohort, given the number of sites that can train: at least one."""
    return config.cohort_size or max(1, int(config.fraction * sites + 0.5))  # halves up


def draw_cohort(
    sites: Iterable[str], size: int, config: RunConfig, round: int, attempt: int = 1
) -> tuple[str, ...]:
    """Draw ``size`` sites without replacement, or all if there are fewer, in name order.

    With Poisson sampling each site is drawn independently with probability ``fraction``, so a
    cohort may be empty. The draw depends on the set of names, the seed, the round and the attempt
    only, so every engine draws the same cohort, and each attempt at a round draws another.
    """
    names = sorted(sites)
    rng = generator(config.seed, "cohort", round, *([] if attempt == 1 else [attempt]))
    if config.sampling == "poisson":
        return draw_secretly(names, config.fraction, rng)
    indices = rng.choice(len(names), min(size, len(names)), replace=False)
    return tuple(names[i] for i in sorted(indices))


def draw_secretly(sites: Iterable[str], rate: float, rng: np.random.Generator) -> tuple[str, ...]:
    """Draw each site independently with probability ``rate``, in name order.

    With a secret ``rng`` nobody can repeat the draw, unlike that of ``draw_cohort``.
    """
    names = sorted(sites)
    return tuple(name for name, draw in zip(names, rng.random(len(names)), strict=True) if draw < rate)


def quorum(sites: int, min_sites: int) -> int:
    """Return how many sites must give a usable answer: ``min_sites``, or half if it is 0."""
    return min_sites or (sites + 1) // 2
