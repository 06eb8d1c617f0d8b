"""The answer for several runs: of one kind with several seeds, or of different kinds."""

import math
from collections.abc import Sequence

import numpy as np

from fedtransfer.common.support.text import counted, size
from fedtransfer.simulations.report.blocks import Fact, epsilon, listed, numbers_in_words, percent, shown
from fedtransfer.simulations.report.reading import Run, real
from fedtransfer.simulations.report.words import (
    LEAKS,
    at_what_cost,
    backbones,
    data_name,
    epsilon_or_none,
    how_private,
    promise,
)


def of_seeds(runs: Sequence[Run]) -> tuple[Fact, ...]:
    """Answer for runs that differ in nothing but their seeds."""
    accuracy = [run.accuracy for run in runs]
    seeds = sorted({run.config.seed for run in runs})
    over = f"{len(seeds)} seeds" if len(seeds) == len(runs) else f"{len(runs)} runs with {counted(len(seeds), 'seed')}"
    over += f" ({numbers_in_words(seeds)})"
    mean, least, most = float(np.mean(accuracy)), percent(min(accuracy)), percent(max(accuracy))
    if len(runs) < 3:  # two values say little of their spread
        number_, spread = (
            f"{least} to {most}",
            f"from {least} to {most}; two are too few to tell how much a seed changes.",
        )
    else:
        deviation = 100 * float(np.std(accuracy, ddof=1))
        number_ = f"{100 * mean:.1f} ± {deviation:.1f} %"
        spread = f"standard deviation {deviation:.1f} percentage points; worst {least}, best {most}."
    good = [
        f"On average the head is right on {percent(mean)} of the test images over {over}, {spread}",
        "The seed moves partition, splits and batches.",
    ]
    if pooled := [run.summary["baselines"]["pooled"] for run in runs if "baselines" in run.summary]:
        good.append(f"With all images in one place it would be {percent(float(np.mean(pooled)))}.")
    good += _on_own_images(runs, "the federation's head")
    first = runs[0]
    return (
        Fact("How good?", number_, tuple(good)),
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


def _on_own_images(runs: Sequence[Run], head: str) -> list[str]:
    """Say what sites have on their own test images with a federation's head and alone, in the mean of the runs."""
    pairs = [
        (real(run.measured.get("mean_site_accuracy")), real(own.get("local_mean")))
        for run in runs
        if (own := run.summary.get("baselines_on_own_test_images"))
    ]
    together, alone = np.mean(pairs, axis=0) if pairs else (math.nan, math.nan)
    if math.isnan(together) or math.isnan(alone):
        return []
    return [
        f"On its own test images a site has {percent(together)} with {head}, in the mean over sites, and {percent(alone)} "
        "with one that it trained alone."
    ]


def by_data(runs: Sequence[Run]) -> dict[str, list[int]]:
    """Return data → the numbers of the runs on them."""
    groups: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        groups.setdefault(run.config.data, []).append(i)
    return groups


def _how_good(runs: Sequence[Run], names: Sequence[str]) -> Fact | None:
    """Tell the best, and the best with a promise of privacy; of each data by itself, for others do not compare."""
    groups = by_data(runs)
    number_, sentences = "", []
    for mine in groups.values():
        known = [(runs[i], names[i]) for i in mine if not math.isnan(runs[i].accuracy)]
        if not known:
            continue
        on = f"On {data_name(known[0][0].config)} " if len(groups) > 1 else ""
        best, name = max(known, key=lambda pair: pair[0].accuracy)
        worst, other = min(known, key=lambda pair: pair[0].accuracy)
        number_ = percent(best.accuracy)
        if len(known) == 1:
            sentences.append(f"{on or 'Of the runs '}{shown(name, 60)} has {number_} of its test images right.")
            sentences += _on_own_images([best], "that head")
            continue
        the = f"{on}the best" if on else "The best"
        sentences.append(
            f"{the} of {counted(len(mine), 'run')} is {shown(name, 60)} with {number_} of its test images right; the lowest, "
            f"{shown(other, 60)}, has {percent(worst.accuracy)}."
        )
        sentences += _on_own_images([best], f"the head of {shown(name, 60)}")
        private = [pair for pair in known if not math.isinf(pair[0].epsilon)]
        if private and math.isinf(best.epsilon):
            run, name = max(private, key=lambda pair: pair[0].accuracy)
            number_ += f" without differential privacy, {percent(run.accuracy)} at ε = {epsilon(run.epsilon)}"
            sentences.append(
                f"The best with a promise of privacy is {shown(name, 60)}: {percent(run.accuracy)} at ε = {epsilon(run.epsilon)}."
            )
    if not sentences:
        return None
    if len(groups) > 1:
        number_ = f"{counted(len(groups), 'data set')}, no comparison"
        sentences.append("The runs are on different data, so their accuracies do not compare.")
    if len({run.config.seed for run in runs}) == 1:
        sentences.append("All have the same seed: what differs by a point or two may differ by chance.")
    return Fact("How good?", number_, tuple(sentences))


def of_several(runs: Sequence[Run], names: Sequence[str]) -> tuple[Fact, ...]:
    """Answer for runs that differ: the best, the cheapest, and what they promise."""
    facts = [good] if (good := _how_good(runs, names)) else []
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
    data, methods = ({name(run.config) for run in runs} for name in (data_name, lambda config: config.method.title))
    networks = {
        f"{shown(run.summary['backbone']['name'], 60)} at {run.summary['backbone']['resolution']} px" for run in runs
    }
    seeds = {run.config.seed for run in runs}
    return (
        f"{listed(sorted(methods))} on {listed(sorted(data))}. {backbones(sorted(networks), [run.config for run in runs])}. "
        f"{'Seed' if len(seeds) == 1 else 'Seeds'} {numbers_in_words(seeds)}."
    )
