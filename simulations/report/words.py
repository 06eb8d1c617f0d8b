"""The answer in sentences made of the numbers: how good, how private, at what cost, on what."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.config import RunConfig
from common.settings.option import changed
from common.words import size
from simulations.report.blocks import Fact, counted, listed, number, numbers_in_words, percent, shown
from simulations.report.reading import Run

_LEAKS = "label counts of every site, features of small classes and, with effort, approximate images"
_METHOD = {
    "fedavg": "FedAvg",
    "fed3r": "Fed3R",
    "fedncm": "FedNCM",
    "fedcof": "FedCOF",
    "fedprox": "FedProx",
    "scaffold": "SCAFFOLD",
}


def of_run(run: Run) -> tuple[Fact, ...]:
    """Answer for one run."""
    return (
        Fact("How good?", percent(run.accuracy), tuple(_how_good(run))),
        Fact("How private?", _epsilon_or_none(run), tuple(how_private(run))),
        Fact("At what cost?", f"{size(sum(run.bytes))} a site", tuple(_at_what_cost(run))),
    )


def of_seeds(runs: Sequence[Run]) -> tuple[Fact, ...]:
    """Answer for runs that differ in nothing but their seeds."""
    accuracy = [run.accuracy for run in runs]
    seeds = numbers_in_words(run.config.seed for run in runs)
    spread = float(np.std(accuracy, ddof=1))
    good = [
        f"On average the head is right on {percent(float(np.mean(accuracy)))} of the test images over {len(runs)} seeds "
        f"({seeds}), "
        f"standard deviation {100 * spread:.1f} percentage points; worst {percent(min(accuracy))}, best "
        f"{percent(max(accuracy))}.",
        "The seed moves partition, splits and batches.",
    ]
    if pooled := [run.summary["baselines"]["pooled"] for run in runs if "baselines" in run.summary]:
        good.append(f"With all images in one place it would be {percent(float(np.mean(pooled)))}.")
    first = runs[0]
    return (
        Fact("How good?", f"{100 * float(np.mean(accuracy)):.1f} ± {100 * spread:.1f} %", tuple(good)),
        Fact("How private?", _epsilon_or_none(first), ("Of each run by itself; together they promise less.",) * first.config.private + tuple(how_private(first))),
        Fact("At what cost?", f"{size(float(np.mean([sum(run.bytes) for run in runs])))} a site", tuple(_at_what_cost(first))),
    )  # fmt: skip


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
    private = [f"{counted(len(promised), 'run')} of {len(runs)} promise differential privacy."] if promised else []
    for run, name in zip(runs, names, strict=True):
        if run.privacy and len(promised) <= 4:
            private.append(f"{shown(name, 60)}: {_promise(run)}")
    if none:
        private.append(
            f"{counted(none, 'run')} of {len(runs)} make no promise of privacy: what travels may tell of {_LEAKS}."
        )
    least = min((run.epsilon for run in promised), default=math.inf)
    facts.append(Fact("How private?", "no promise" if math.isinf(least) else f"ε ≥ {number(least)}", tuple(private)))
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


def _how_good(run: Run) -> list[str]:
    measured, summary = run.measured, run.summary
    if math.isnan(run.accuracy):
        return [
            "Nobody knows: the sites keep to themselves how the head does on their images, and no --public-data were given."
        ]
    outside = measured is not summary and "measured_outside_the_federation" in summary
    matrix, sites = summary.get("confusion_matrix"), summary["sites"]
    images = int(np.sum(matrix)) if matrix else 0
    place = (
        "public test images at the server"
        if summary.get("scored_on") == "public-data" and not outside
        else f"test images of {counted(sites, 'site')}"
    )
    told = f"the {images:,} {place}" if images else f"the {place}"
    sentences = [f"The federation's head is right on {percent(run.accuracy)} of {told}."]
    if images:
        low, high = wilson(run.accuracy, images)
        sentences[0] = (
            sentences[0][:-1]
            + f" (95 % interval {percent(low)} to {percent(high)} for the choice of test images alone)."
        )
    if outside:
        sentences.append(
            "This was measured from outside the simulated federation: a real one would not know it, for sites keep such "
            "scores to themselves."
        )
    sentences.append(f"One run with seed {run.config.seed}: how much another seed would change is not known from it.")
    if baselines := summary.get("baselines"):
        sentences.append(
            f"For comparison: all images in one place {percent(baselines['pooled'])}, a site alone "
            f"{percent(baselines['local_mean'])} "
            f"(mean of {counted(summary['baselines_local_sites'], 'site')}), always the most frequent class "
            f"{percent(baselines['majority'])}."
        )
    own = measured.get("site_accuracy") or {}
    if own:
        worst = min(own, key=lambda site: own[site])
        sentences.append(
            f"On its own test images the worst site, {shown(worst, 40)}, has {percent(own[worst])}; the mean over sites is "
            f"{percent(measured['mean_site_accuracy'])}."
        )
    if alone := summary.get("baselines_on_own_test_images"):
        better = "more" if alone["local_mean"] > measured["mean_site_accuracy"] else "less"
        sentences.append(
            f"A head trained at a site alone has {percent(alone['local_mean'])} there (mean), {better} than the federation's."
        )
    return sentences


def how_private(run: Run) -> list[str]:
    """Say exactly what a run promises, or that it promises nothing."""
    config = run.config
    if run.privacy is None:
        sentences = [
            "No promise of privacy: no noise is added, so nothing bounds what can be learnt about an image or a site from "
            "the head."
        ]
        if config.masks:
            sentences.append(
                "Secure aggregation hides single updates: the server learns totals over the sites of a round only. The totals "
                "themselves are exact and still tell of the data."
            )
        else:
            sentences.append(
                f"The server sees every site's update as it is; from such updates it can learn {_LEAKS} (MAUI, arXiv 2509.11451)."
            )
        return sentences
    sentences = [_promise(run)]
    if config.masks:
        sentences.append("Under secure aggregation the server sees totals only.")
    if run.privacy.get("stopped_by_budget"):
        sentences.append(
            f"The run stopped after {run.summary['rounds']} of {run.summary['rounds_planned']} rounds, since one more would "
            "have spent more than was allowed."
        )
    sentences.append(
        "Who takes part, class names and settings are not protected."
        if config.dp == "image"
        else "Class names and settings are not protected."
    )
    return sentences


def _promise(run: Run) -> str:
    told = run.privacy or {}
    epsilon = "unbounded" if told["epsilon"] is None else number(told["epsilon"])
    return (
        f"Differential privacy with ε = {epsilon} at δ = {told['delta']:g}; the unit is one {told['unit']}, neighbours: "
        f"{told['neighbours']}. "
        f"Noise multiplier {number(told['noise_multiplier'], 4)}, clip {told['clip']:g}, "
        f"{counted(told['releases'], 'release')}, "
        f"sampling: {told['sampling']}. Trusted: {told['trust']}."
    )


def _epsilon_or_none(run: Run) -> str:
    if run.privacy is None:
        return "no promise"
    return "ε unbounded" if math.isinf(run.epsilon) else f"ε = {number(run.epsilon)}"


def _at_what_cost(run: Run) -> list[str]:
    summary, (down, up) = run.summary, run.bytes
    rounds = (
        "one exchange, without rounds of training" if run.config.closed_form else counted(summary["rounds"], "round")
    )
    sentences = [f"A site received {size(down)} and sent {size(up)} in all ({rounds})."]
    seconds = summary["seconds"]
    parts = [f"{seconds['rounds']:.1f} s for the rounds"] if "rounds" in seconds else []
    parts += (
        [
            f"{seconds['features']:.1f} s for features ({summary['features']['extracted']:,} extracted, "
            f"{summary['features']['reused']:,} from the store)"
        ]
        if "features" in seconds and "features" in summary
        else []
    )
    parts += [f"{seconds['total']:.1f} s in all, with start-up and baselines"] if "total" in seconds else []
    if parts:
        sentences.append(f"On the machine that ran it: {', '.join(parts)}.")
    if failed := summary.get("failed_attempts"):
        sentences.append(
            f"{counted(failed, 'attempt')} at a round failed and {'was' if failed == 1 else 'were'} repeated."
        )
    return sentences


def on_what(run: Run) -> str:
    """Say on which data, with which backbone and method."""
    config, summary, backbone = run.config, run.summary, run.summary["backbone"]
    images = (
        f"{summary['images']:,} images" if summary.get("images") else "images whose number the sites keep to themselves"
    )
    split = summary.get("images_by_split") or {}
    splits = f" ({', '.join(f'{count:,} {name}' for name, count in split.items())})" if split else ""
    simulated = bool(run.images[0])
    divided = {
        "natural": "a folder a site",
        "iid": "divided evenly at random",
        "dirichlet": f"divided by Dirichlet({config.alpha:g})",
    }.get(config.partition, f"divided by {config.partition}")
    where = f"{data_name(config)}, {divided}" if simulated else "their own images"
    return (
        f"{_METHOD.get(config.strategy, config.strategy)} on {where}: {images}{splits} in "
        f"{counted(len(run.classes), 'class', 'classes')} at {counted(summary['sites'], 'site')}"
        f"{', simulated' if simulated else ''}. Frozen backbone {shown(backbone['name'], 60)} at {backbone['resolution']} "
        f"px. Seed {config.seed}."
    )


def on_several(runs: Sequence[Run]) -> str:
    """Say on which data, with which backbones and methods several runs are."""
    data, methods = (
        {name(run.config) for run in runs}
        for name in (data_name, lambda config: _METHOD.get(config.strategy, config.strategy))
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


def data_name(config: RunConfig) -> str:
    """Return the name of the data: of a path its last part."""
    return shown(Path(config.data).name or config.data, 60)


def options(config: RunConfig) -> str:
    """Return the command that runs these settings, with the options that are not defaults."""
    import shlex

    parts = ["fedtransfer", "simulate"]
    for name, field in type(config).model_fields.items():
        if changed(config, name) and name not in ("out", "resume") and (field.json_schema_extra or {}).get("panel"):  # type: ignore[union-attr]
            value, option = getattr(config, name), f"--{name.replace('_', '-')}"
            parts += (
                [option if value else f"--no-{name.replace('_', '-')}"]
                if isinstance(value, bool)
                else [option, str(value)]
            )
    return shlex.join(parts)


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of so many (Wilson 1927)."""
    z = 1.959964
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return middle - half, middle + half
