"""The page about several runs, of one kind with several seeds or of different kinds."""

import math
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from fedtransfer.common.config.settings.option import outside
from fedtransfer.common.support.text import counted, size
from fedtransfer.simulations.report.blocks import (
    NONE,
    Fact,
    Figure,
    Page,
    Section,
    Table,
    listed,
    percent,
    power,
    printable,
)
from fedtransfer.simulations.report.chart_data import Axis, Dot, Level, Series
from fedtransfer.simulations.report.charts import DISTINCT, dot_chart, line_chart
from fedtransfer.simulations.report.reading import Run, real
from fedtransfer.simulations.report.runs import ACCURACY, ACCURACY_OF_SITES, BYTES, ROUNDS, in_sections, setting
from fedtransfer.simulations.report.sentences import caption, fact, paragraphs, sentence, table

_WITHOUT_EFFECT = {"out", "store", "prepared", "resume", "log_json", "threads"}
_COLUMNS = 6  # most runs that are columns, or in the chart by site
_accuracy = attrgetter("accuracy")


def page(runs: Sequence[Run]) -> Page:
    """Lay out the page; a run has one colour in all figures."""
    seeds, alike = sorted({run.config.seed for run in runs}), set(_differing(runs)) <= {"seed"}
    figures = {
        ("accuracy", "Accuracy by round"): _by_round(runs),
        ("sites", "Accuracy by site"): _by_site(runs),
        ("epsilon", "Accuracy against ε"): _by_epsilon(runs),
        ("bytes", "Accuracy against bytes"): _by_bytes(runs),
    }
    code = "\n".join(f"fedtransfer simulate --config {run.folder}/config.toml" for run in runs[:20])
    sections = [
        Section("runs", "The runs side by side", tables=[_side_by_side(runs)]),
        *in_sections(figures),
        Section("settings", "Settings that differ", tables=[_differences(runs)]),
        Section(
            "repeat", "To repeat them", paragraphs("run", "repeat_several"), code=[code], tables=[_backbones(runs)]
        ),
    ]
    title = listed([printable(run.name, 40) for run in runs]) if len(runs) <= 3 else counted(len(runs), "run")
    lead = sentence("lead", "of_run", runs[0], seeds) if alike else sentence("lead", "of_several", runs)
    facts = _of_seeds(runs, seeds) if alike and all(run.scored for run in runs) else _of_several(runs)
    return Page(title, lead, facts, sections)


def _one_data(runs: Sequence[Run]) -> bool:
    return len({run.config.data for run in runs}) == 1


def _of_seeds(runs: Sequence[Run], seeds: Sequence[int]) -> list[Fact]:
    """Answer for runs that differ in nothing but their seeds."""
    accuracy = [run.accuracy for run in runs]
    pooled = [run.summary["baselines"]["pooled"] for run in runs if "baselines" in run.summary]
    mean, deviation = float(np.mean(accuracy)), float(np.std(accuracy, ddof=1))
    together = float(np.mean(pooled)) if pooled else None
    spread = mean, deviation, min(accuracy), max(accuracy)
    good = fact("accuracy", "of_seeds", runs, seeds, *spread, together, _on_own_images(runs))
    cost = fact("cost", "of_seeds", runs, float(np.mean([sum(run.bytes) for run in runs])))
    return [good, fact("privacy", "of_seeds", runs[0]), cost]


def _of_several(runs: Sequence[Run]) -> list[Fact]:
    """Answer for runs that differ: on each data the best and the worst, what they promise, and the cheapest."""
    groups: list[dict[str, Any]] = []
    for data in dict.fromkeys(run.config.data for run in runs):
        members = [run for run in runs if run.config.data == data]
        if scored := [run for run in members if run.scored]:
            best, worst = (choose(scored, key=_accuracy) for choose in (max, min))
            private = [run for run in scored if not math.isinf(run.epsilon)] if math.isinf(best.epsilon) else []
            group = {"best": best, "worst": worst, "private": max(private, key=_accuracy, default=None)}
            number = len(members) if len(scored) > 1 else 1
            groups.append(group | {"runs": number, "own": _on_own_images([best])})
    one_seed = len({run.config.seed for run in runs}) == 1
    good = [fact("accuracy", "of_several", groups, one_seed)] if groups else []
    least, most = (choose(runs, key=lambda run: sum(run.bytes)) for choose in (min, max))
    return [*good, fact("privacy", "of_several", runs), fact("cost", "of_several", least, most)]


def _on_own_images(runs: Sequence[Run]) -> tuple[float, float] | None:
    """Return the accuracy on own test images with the federation's head, and of each site alone; means over runs."""
    pairs = [
        (real(run.measured.get("mean_site_accuracy")), real(alone.get("local_mean")))
        for run in runs
        if (alone := run.summary.get("baselines_on_own_test_images"))
    ]
    together, alone = np.mean(pairs, axis=0).tolist() if pairs else (math.nan, math.nan)
    return None if math.isnan(together + alone) else (together, alone)


def _side_by_side(runs: Sequence[Run]) -> Table:
    rows = []
    for run in runs:
        pooled = run.summary.get("baselines", {}).get("pooled")
        alone = run.summary.get("baselines_on_own_test_images", {}).get("local_mean")
        mean, worst = (run.measured.get(f"{name}_site_accuracy") for name in ("mean", "worst"))
        rows.append(
            (
                printable(run.name), sentence("privacy", "in_short", run),
                *map(percent, (run.accuracy, pooled, mean, alone, worst)), "yes" if run.config.masks else "no",
                NONE if run.config.closed_form else f"{run.summary['rounds']:,}", size(sum(run.bytes)),
                f"{run.summary['seconds'].get('rounds', math.nan):,.1f}",
            )
        )  # fmt: skip
    accuracies = [run.accuracy for run in runs if run.scored]
    several = len({round(accuracy, 6) for accuracy in accuracies}) > 1
    winner = several and _one_data(runs)
    marked = frozenset(i for i, run in enumerate(runs) if winner and run.accuracy == max(accuracies))
    one_shot = any(run.config.closed_form for run in runs)
    from_outside = any("measured_outside_the_federation" in run.summary for run in runs)
    about = several, _one_data(runs), one_shot, from_outside
    return table("side_by_side", rows, *about, marked=marked).shortened(where="the run folders")


def _differing(runs: Sequence[Run]) -> list[str]:
    """Return the names of settings that the runs do not agree in."""
    names = [name for name in type(runs[0].config).model_fields if name not in _WITHOUT_EFFECT]
    return [name for name in names if len({_value(run, name) for run in runs}) > 1]


def _value(run: Run, name: str) -> Any:
    """Return a setting, of a one-shot head 0 rounds: that it has another number is of no effect."""
    return run.config.training_rounds if name == "rounds" else getattr(run.config, name)


def _differences(runs: Sequence[Run]) -> Table:
    columns = ["setting", *(printable(run.name, 40) for run in runs)]
    if len(runs) > _COLUMNS:
        columns = ["setting", "values, and how many runs have them"]
    rows, fields = [], _differing(runs)
    for field in fields:
        texts = [NONE if field == "rounds" and run.config.closed_form else setting(_value(run, field)) for run in runs]
        counts = Counter(texts)
        often = ", ".join(f"{value} ({times})" for value, times in counts.most_common(12))
        cells = (
            [printable(text, 40) for text in texts] if len(runs) <= _COLUMNS else [often + ", …" * (len(counts) > 12)]
        )
        rows.append([outside(field), *cells])
    return Table("Settings that differ", columns, rows, sentence("tables", "differences", bool(fields)), texts=True)


def _backbones(runs: Sequence[Run]) -> Table:
    used: dict[tuple[str, str, str], list[str]] = {}
    for run in runs:
        backbone = run.summary["backbone"]
        key = printable(backbone["name"]), f"{backbone['resolution']} px", backbone["fingerprint"]
        used.setdefault(key, []).append(printable(run.name, 40))
    users = [", ".join(group) if len(group) < _COLUMNS else counted(len(group), "run") for group in used.values()]
    return table("backbones_of_runs", [(*key, names) for key, names in zip(used, users, strict=True)])


def _line(
    runs: Sequence[Run], run: Run, x: Sequence[float], y: Sequence[float], *, joined: bool, about: str = ""
) -> Series:
    """Return a run's line in the look that it has in all figures; of many runs only the most accurate have one."""
    looks = {each.name: look for look, each in enumerate(runs)}
    if len(runs) > DISTINCT:
        ranked = sorted(runs, key=lambda each: each.accuracy if each.scored else -1.0)
        looks = {each.name: look for look, each in enumerate(ranked[:-DISTINCT:-1])}
    look = looks.get(run.name)
    return Series(run.name + about, x, y, joined=joined, look=look, faint=look is None)


def _note(runs: Sequence[Run], lines: Sequence[Series]) -> str:
    return sentence("figures", "faint_lines", _one_data(runs), DISTINCT - 1, sum(line.faint for line in lines))


def _by_round(runs: Sequence[Run]) -> Figure | None:
    lines = [_line(runs, run, *run.curve("accuracy"), joined=True) for run in runs]
    lines = [line for line in lines if len(line.x) > 1]
    if not lines:
        return None
    once = [Level(f"{run.name}, one exchange", run.accuracy) for run in runs if run.config.closed_form and run.scored]
    ends = sorted(((line.name, line.y[-1]) for line in lines), key=lambda end: end[1])
    words = caption("runs_by_round", ends, _one_data(runs), _note(runs, lines))
    return line_chart(words, lines, ROUNDS, ACCURACY, once if len(once) <= 4 else ())


def _by_site(runs: Sequence[Run]) -> Figure | None:
    accuracy = [run.measured.get("site_accuracy") or {} for run in runs]
    if len(runs) > _COLUMNS or not accuracy[0] or any(set(scores) != set(accuracy[0]) for scores in accuracy):
        return None
    if not _one_data(runs):  # sites of one name, and nothing else in common
        return None
    sites = sorted(accuracy[0], key=lambda site: -accuracy[0][site])
    dots = [Dot(site, tuple(scores[site] for scores in accuracy)) for site in sites]
    spread = max(dots, key=lambda dot: max(dot.values) - min(dot.values))
    words = caption("runs_by_site", len(dots), runs[0].name, spread.name, spread.values)
    columns = ["site", *(printable(run.name, 30) for run in runs)]
    return dot_chart(words, dots, columns, ACCURACY_OF_SITES, file="summary.json")


def _by_epsilon(runs: Sequence[Run]) -> Figure | None:
    private = [run for run in runs if not math.isinf(run.epsilon) and run.scored]
    if len({round(run.epsilon, 6) for run in private}) < 2:
        return None
    about = {run.name: f": {run.config.strategy}, one {run.config.dp}" for run in private}
    lines = [_line(runs, run, [run.epsilon], [run.accuracy], joined=False, about=about[run.name]) for run in private]
    low, high = (choose(private, key=lambda run: run.epsilon) for choose in (min, max))
    deltas = {run.config.delta for run in private}
    label = f"ε at δ = {power(deltas.pop())}" if len(deltas) == 1 else "ε, each at its run's δ"
    bare = [run.accuracy for run in runs if run.privacy is None and run.scored]
    best = [Level("the best without a promise", max(bare))] if bare and _one_data(runs) else []
    words = caption("runs_by_epsilon", low, high, _note(runs, lines))
    return line_chart(words, lines, Axis(label, log=True, kind="epsilon"), ACCURACY, best)


def _by_bytes(runs: Sequence[Run]) -> Figure | None:
    lines = []
    for run in runs:
        x, y = run.traffic()
        if len(x) < 2 and run.scored:  # one exchange: one point
            x, y = [sum(run.bytes)], [run.accuracy]
        if x and x[0] > 0:
            lines.append(_line(runs, run, x, y, joined=len(x) > 1))
    if not lines:
        return None
    least, most = min(lines, key=lambda line: line.x[-1]), max(lines, key=lambda line: line.y[-1])
    words = caption("runs_by_bytes", least, most, _one_data(runs), _note(runs, lines))
    return line_chart(words, lines, BYTES, ACCURACY)
