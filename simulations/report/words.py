"""The answer in sentences made of the numbers: how good, how private, at what cost, on what."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.config.settings.option import changed
from fedtransfer.common.head.depth import layers
from fedtransfer.common.support.text import counted, size
from fedtransfer.simulations.report.blocks import Fact, epsilon, listed, number, numbers_in_words, percent, power, shown
from fedtransfer.simulations.report.estimates import rising, wilson
from fedtransfer.simulations.report.reading import Run

LEAKS = "label counts of every site, features of small classes and, with effort, approximate images"


def of_run(run: Run) -> tuple[Fact, ...]:
    """Answer for one run."""
    return (
        Fact("How good?", percent(run.accuracy), tuple(_how_good(run))),
        Fact("How private?", epsilon_or_none(run), tuple(how_private(run))),
        Fact("At what cost?", f"{size(sum(run.bytes))} a site", tuple(at_what_cost(run))),
    )


def _how_good(run: Run) -> list[str]:
    measured, summary = run.measured, run.summary
    if math.isnan(run.accuracy):
        return [
            "Nobody knows: the sites keep to themselves how the head does on their images, and no --public-data were given."
        ]
    outside, public = "measured_outside_the_federation" in summary, summary.get("scored_on") == "public-data"
    matrix, sites = summary.get("confusion_matrix"), f"test images of {counted(summary['sites'], 'site')}"
    images = int(np.sum(matrix)) if matrix and not (outside and public) else 0
    place = "public test images at the server" if public and not outside else sites
    told = f"the {images:,} {place}" if images else f"the {place}"
    interval = ""
    if images:
        low, high = wilson(run.accuracy, images)
        interval = f" (95 % interval {percent(low)} to {percent(high)} for the choice of test images alone)"
    sentences = [f"The federation's head is right on {percent(run.accuracy)} of {told}{interval}."]
    if outside and (public or summary["accuracy"] is None):
        sentences.append(
            "This was measured from outside the simulated federation: a real one would not know it, for sites keep such "
            "scores to themselves."
        )
    if outside and public:
        sentences.append(
            f"All that it knows itself: on public images at the server it is right on {percent(summary['accuracy'])}."
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
            + " That was measured from outside the simulated federation."
            * (outside and run.config.masks)
        )
    if mean := summary.get("baselines_on_own_test_images"):
        better = "more" if mean["local_mean"] > measured["mean_site_accuracy"] else "less"
        sentences.append(
            f"A head trained at a site alone has {percent(mean['local_mean'])} there (mean), {better} than the federation's."
        )
        alone = {site: accuracy for site, accuracy in mean.get("local", {}).items() if site in own}
        if alone:
            ahead = sum(accuracy > own[site] for site, accuracy in alone.items())
            sentences.append(f"{ahead} of {counted(len(alone), 'site')} {'does' if ahead == 1 else 'do'} better alone.")
    if rise := rising(run.curve("accuracy")[1]):
        sentences.append(
            f"Accuracy was still rising at the last round, by {100 * rise:.1f} points from one fifth of the rounds to the next: "
            "more rounds may give more."
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
                f"The server sees every site's update as it is; from such updates it can learn {LEAKS} (MAUI, arXiv 2509.11451)."
            )
        return sentences
    sentences = [promise(run)]
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


def promise(run: Run) -> str:
    """Say what a run with differential privacy promises."""
    told = run.privacy or {}
    spent = "unbounded" if told["epsilon"] is None else epsilon(told["epsilon"])
    return (
        f"Differential privacy with ε = {spent} at δ = {power(told['delta'])}; the unit is one {told['unit']}, "
        "neighbours: "
        f"{told['neighbours']}. "
        f"Noise multiplier {number(told['noise_multiplier'], 4)}, clip {told['clip']:g}, "
        f"{counted(told['releases'], 'release')}, "
        f"sampling: {told['sampling']}. Trusted: {told['trust']}."
    )


def epsilon_or_none(run: Run) -> str:
    """Return ε, or that there is no promise."""
    if run.privacy is None:
        return "no promise"
    return "ε unbounded" if math.isinf(run.epsilon) else f"ε = {epsilon(run.epsilon)}"


def at_what_cost(run: Run) -> list[str]:
    """Say what a run cost a site in bytes, and in seconds where it ran."""
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


def on_what(run: Run, seeds: Sequence[int] = ()) -> str:
    """Say on which data, with which backbone and method; ``seeds`` are those of all runs like this one."""
    config, summary, backbone = run.config, run.summary, run.summary["backbone"]
    images = (
        f"{summary['images']:,} images" if summary.get("images") else "images whose number the sites keep to themselves"
    )
    split = summary.get("images_by_split") or {}
    splits = f" ({', '.join(f'{count:,} {name}' for name, count in split.items())})" if split else ""
    simulated = bool(run.images[0])
    network = f"{shown(backbone['name'], 60)} at {backbone['resolution']} px"
    where = f"{data_name(config)}, {divided(config)}" if simulated else "their own images"
    return (
        f"{config.method.title} on {where}: {images}{splits} in "
        f"{counted(len(run.classes), 'class', 'classes')} at {counted(summary['sites'], 'site')}"
        f"{', simulated' if simulated else ''}. {backbones([network], [config])}. "
        f"{'Seeds' if len(seeds) > 1 else 'Seed'} {numbers_in_words(seeds or [config.seed])}."
    )


def backbones(names: Sequence[str], configs: Sequence[RunConfig]) -> str:
    """Say which backbones there are and what of them is trained: ``Frozen backbone resnet50v2 at 64 px``.

    Args:
        names: with their resolutions.
        configs: of the runs, or one of each method; without any nothing is said of training.
    """
    what = f"ackbone{'s' if len(names) > 1 else ''} {listed(names)}"
    deepest = [layers(config)[-1] for config in configs]
    trained = " or ".join(dict.fromkeys(layer for layer in deepest if layer != "head"))
    if not trained:
        return f"Frozen b{what}" if configs else f"B{what}"
    return f"B{what}, {'frozen but where it is trained' if 'head' in deepest else 'trained'} from {trained} on"


def divided(config: RunConfig) -> str:
    """Say how the images are spread over the sites of a simulation."""
    match config.partition:
        case "natural":
            return "a folder a site"
        case "iid":
            return "images dealt evenly at random"
        case "dirichlet":
            uneven = (
                "few classes a site"
                if config.alpha <= 0.1
                else "uneven classes"
                if config.alpha <= 1
                else "nearly even"
            )
            return f"dealt by Dirichlet({config.alpha:g}), {uneven}"
        case "pathological":
            return f"{counted(config.classes_per_site, 'class', 'classes')} a site"


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
