"""The answer for several runs: of one kind with several seeds, or of different kinds."""

import math
from collections.abc import Sequence

import numpy as np

from common.words import size
from simulations.report.blocks import Fact, counted, listed, number, numbers_in_words, percent, shown
from simulations.report.reading import Run
from simulations.report.words import LEAKS, METHOD, at_what_cost, data_name, epsilon_or_none, how_private, promise


def of_seeds(runs: Sequence[Run]) -> tuple[Fact, ...]:
    """Answer for runs that differ in nothing but their seeds."""
    accuracy = [run.accuracy for run in runs]
    seeds = sorted({run.config.seed for run in runs})
    over = f"{len(seeds)} seeds" if len(seeds) == len(runs) else f"{len(runs)} runs with {counted(len(seeds), 'seed')}"
    over += f" ({numbers_in_words(seeds)})"
    spread = float(np.std(accuracy, ddof=1))
    good = [
        f"On average the head is right on {percent(float(np.mean(accuracy)))} of the test images over {over}, "
        f"standard deviation {100 * spread:.1f} percentage points; worst {percent(min(accuracy))}, best "
        f"{percent(max(accuracy))}.",
        "The seed moves partition, splits and batches.",
    ]
    if pooled := [run.summary["baselines"]["pooled"] for run in runs if "baselines" in run.summary]:
        good.append(f"With all images in one place it would be {percent(float(np.mean(pooled)))}.")
    first = runs[0]
    return (
        Fact("How good?", f"{100 * float(np.mean(accuracy)):.1f} ± {100 * spread:.1f} %", tuple(good)),
        Fact(
            "How private?",
            epsilon_or_none(first),
            ("Of each run by itself; together they promise less.",) * first.config.private + tuple(how_private(first)),
        ),
        Fact(
            "At what cost?",
            f"{size(float(np.mean([sum(run.bytes) for run in runs])))} a site",
            ("Bytes are means over the runs; of the first run:", *at_what_cost(first)),
        ),
    )


def of_several(runs: Sequence[Run], names: Sequence[str]) -> tuple[Fact, ...]:
    """Answer for runs that differ: the best, the cheapest, and what they promise."""
    known = [(run, name) for run, name in zip(runs, names, strict=True) if not math.isnan(run.accuracy)]
    facts = []
    if known:
        best, name = max(known, key=lambda pair: pair[0].accuracy)
        worst, other = min(known, key=lambda pair: pair[0].accuracy)
        sentences = [
            f"The best of {counted(len(runs), 'run')} is {shown(name, 60)} with {percent(best.accuracy)} of its test images "
            f"right; the lowest, {shown(other, 60)}, has {percent(worst.accuracy)}."
        ]
        if not any(not math.isinf(run.epsilon) for run, _ in known) or math.isinf(best.epsilon):
            private = [pair for pair in known if not math.isinf(pair[0].epsilon)]
            if private:
                run, name = max(private, key=lambda pair: pair[0].accuracy)
                sentences.append(
                    f"The best with a promise of privacy is {shown(name, 60)}: {percent(run.accuracy)} at ε = {number(run.epsilon)}."
                )
        if len({run.config.data for run in runs}) > 1:
            sentences.append("The runs are on different data, so their accuracies do not compare.")
        if len({run.config.seed for run in runs}) == 1:
            sentences.append("All have the same seed: what differs by a point or two may differ by chance.")
        facts.append(Fact("How good?", percent(best.accuracy), tuple(sentences)))
    promised = [run for run in runs if run.privacy]
    none = len(runs) - len(promised)
    told = [f"Differential privacy is promised by {counted(len(promised), 'run')} of {len(runs)}."] if promised else []
    for run, name in zip(runs, names, strict=True):
        if run.privacy and len(promised) <= 4:
            told.append(f"{shown(name, 60)}: {promise(run)}")
    if none:
        told.append(
            f"No promise of privacy is made by {counted(none, 'run')} of {len(runs)}: what travels may tell of {LEAKS}."
        )
    facts.append(
        Fact(
            "How private?",
            f"{len(promised)} of {counted(len(runs), 'run')}" if promised else "no promise",
            tuple(told),
        )
    )
    spent = [sum(run.bytes) for run in runs]
    low, high = int(np.argmin(spent)), int(np.argmax(spent))
    facts.append(
        Fact(
            "At what cost?",
            f"{size(spent[low])} to {size(spent[high])}" if low != high else f"{size(spent[low])} a site",
            (
                f"To and from a site, in all its rounds: least in {shown(names[low], 60)}, most in {shown(names[high], 60)}.",
            ),
        )
    )
    return tuple(facts)


def on_several(runs: Sequence[Run]) -> str:
    """Say on which data, with which backbones and methods several runs are."""
    data, methods = (
        {name(run.config) for run in runs}
        for name in (data_name, lambda config: METHOD.get(config.strategy, config.strategy))
    )
    backbones = {
        f"{shown(run.summary['backbone']['name'], 60)} at {run.summary['backbone']['resolution']} px" for run in runs
    }
    frozen = "Frozen backbone" if len(backbones) == 1 else "Frozen backbones"
    seeds = {run.config.seed for run in runs}
    return (
        f"{listed(sorted(methods))} on {listed(sorted(data))}. {frozen} {listed(sorted(backbones))}. "
        f"{'Seed' if len(seeds) == 1 else 'Seeds'} {numbers_in_words(seeds)}."
    )
