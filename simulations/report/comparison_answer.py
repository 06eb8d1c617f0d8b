"""The answer about several runs: of one kind with several seeds, or of different kinds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedtransfer.simulations.report.blocks import Fact
from fedtransfer.simulations.report.reading import Run, real
from fedtransfer.simulations.report.sentences import data_name, fact

Pair = tuple[float, float]


@dataclass(frozen=True)
class Spread:
    """Accuracy over seeds; ``own``: on own test images, with the federation's head and alone, None if unknown."""

    mean: float
    deviation: float
    least: float
    most: float
    pooled: float | None
    own: Pair | None


@dataclass(frozen=True)
class Group:
    """Runs on the same data: the best and the worst, and the best with a promise of privacy if that is another."""

    data: str
    runs: int
    best: Run
    best_name: str
    worst: Run
    worst_name: str
    private: Run | None
    private_name: str
    own: Pair | None


def of_seeds(runs: Sequence[Run]) -> tuple[Fact, ...]:
    """Answer for runs that differ in nothing but their seeds."""
    accuracy = [run.accuracy for run in runs]
    pooled = [run.summary["baselines"]["pooled"] for run in runs if "baselines" in run.summary]
    spread = Spread(
        float(np.mean(accuracy)),
        float(np.std(accuracy, ddof=1)),
        min(accuracy),
        max(accuracy),
        float(np.mean(pooled)) if pooled else None,
        _on_own_images(runs),
    )
    return (
        fact("accuracy", "of_seeds", runs, sorted({run.config.seed for run in runs}), spread),
        fact("privacy", "of_seeds", runs[0]),
        fact("cost", "of_seeds", runs, float(np.mean([sum(run.bytes) for run in runs]))),
    )


def of_several(runs: Sequence[Run], names: Sequence[str]) -> tuple[Fact, ...]:
    """Answer for runs that differ: the best, what they promise, and the cheapest."""
    groups = [group for members in by_data(runs).values() if (group := _group(runs, names, members))]
    one_seed = len({run.config.seed for run in runs}) == 1
    good = (fact("accuracy", "of_several", groups, one_seed),) if groups else ()
    spent = [sum(run.bytes) for run in runs]
    return *good, fact("privacy", "of_several", runs, names), fact("cost", "of_several", spent, names)


def by_data(runs: Sequence[Run]) -> dict[str, list[int]]:
    """Return data → the numbers of the runs on them."""
    groups: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        groups.setdefault(run.config.data, []).append(i)
    return groups


def _group(runs: Sequence[Run], names: Sequence[str], members: Sequence[int]) -> Group | None:
    scored = [(runs[i], names[i]) for i in members if not math.isnan(runs[i].accuracy)]
    if not scored:
        return None
    best, worst = (choose(scored, key=lambda pair: pair[0].accuracy) for choose in (max, min))
    private = [pair for pair in scored if not math.isinf(pair[0].epsilon)] if math.isinf(best[0].epsilon) else []
    run, name = max(private, key=lambda pair: pair[0].accuracy) if private else (None, "")
    count = len(members) if len(scored) > 1 else 1
    return Group(data_name(best[0].config), count, *best, *worst, run, name, _on_own_images([best[0]]))


def _on_own_images(runs: Sequence[Run]) -> Pair | None:
    """Return the accuracy on own test images with the federation's head, and of each site alone; means over runs."""
    pairs = [
        (real(run.measured.get("mean_site_accuracy")), real(alone.get("local_mean")))
        for run in runs
        if (alone := run.summary.get("baselines_on_own_test_images"))
    ]
    together, alone = np.mean(pairs, axis=0).tolist() if pairs else (math.nan, math.nan)
    return None if math.isnan(together + alone) else (together, alone)
