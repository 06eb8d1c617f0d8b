"""The answer about several runs: of one kind with several seeds, or of different kinds."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedtransfer.simulations.report.blocks import Fact
from fedtransfer.simulations.report.reading import Run, real
from fedtransfer.simulations.report.sentences import data_name, fact


def of_seeds(runs: Sequence[Run]) -> tuple[Fact, ...]:
    """Answer for runs that differ in nothing but their seeds."""
    accuracy = [run.accuracy for run in runs]
    pooled = [run.summary["baselines"]["pooled"] for run in runs if "baselines" in run.summary]
    good = fact(
        "accuracy",
        "of_seeds",
        runs,
        sorted({run.config.seed for run in runs}),
        mean=float(np.mean(accuracy)),
        deviation=float(np.std(accuracy, ddof=1)),
        least=min(accuracy),
        most=max(accuracy),
        pooled=float(np.mean(pooled)) if pooled else None,
        own=_on_own_images(runs),
    )
    cost = fact("cost", "of_seeds", runs, float(np.mean([sum(run.bytes) for run in runs])))
    return good, fact("privacy", "of_seeds", runs[0]), cost


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


def _group(runs: Sequence[Run], names: Sequence[str], members: Sequence[int]) -> dict[str, Any] | None:
    """Return the best and the worst of runs on the same data, and the best with a promise if that is another."""
    scored = [(runs[i], names[i]) for i in members if not math.isnan(runs[i].accuracy)]
    if not scored:
        return None
    (best, best_name), (worst, worst_name) = (
        choose(scored, key=lambda pair: pair[0].accuracy) for choose in (max, min)
    )
    private = [pair for pair in scored if not math.isinf(pair[0].epsilon)] if math.isinf(best.epsilon) else []
    top, top_name = max(private, key=lambda pair: pair[0].accuracy) if private else (None, "")
    return {
        "data": data_name(best.config),
        "runs": len(members) if len(scored) > 1 else 1,
        "best": best,
        "best_name": best_name,
        "worst": worst,
        "worst_name": worst_name,
        "private": top,
        "private_name": top_name,
        "own": _on_own_images([best]),
    }


def _on_own_images(runs: Sequence[Run]) -> tuple[float, float] | None:
    """Return the accuracy on own test images with the federation's head, and of each site alone; means over runs."""
    pairs = [
        (real(run.measured.get("mean_site_accuracy")), real(alone.get("local_mean")))
        for run in runs
        if (alone := run.summary.get("baselines_on_own_test_images"))
    ]
    together, alone = np.mean(pairs, axis=0).tolist() if pairs else (math.nan, math.nan)
    return None if math.isnan(together + alone) else (together, alone)
