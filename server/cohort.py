"""Who takes part in a round: drawn by site name, from a generator keyed by (seed, round)."""

from collections.abc import Sequence

from common.seeds import generator


def draw_cohort(sites: Sequence[str], fraction: float, seed: int, round: int) -> tuple[str, ...]:
    """Draw ``fraction`` of the sites (rounded, at least one) without replacement, in name order.

    The draw depends on the set of names, the seed and the round only, so it is the same on every engine.
    """
    names = sorted(sites)
    size = max(1, round_half_up(fraction * len(names)))
    chosen = generator(seed, "cohort", round).choice(len(names), size, replace=False)
    return tuple(names[i] for i in sorted(chosen))


def round_half_up(value: float) -> int:
    """Round to the nearest whole number, halves up (Python's ``round`` takes them to even)."""
    return int(value + 0.5)
