"""The page about several runs, of one kind with several seeds or of different kinds."""

import math
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from fedtransfer.common.config.settings.option import outside
from fedtransfer.common.support.text import counted, size, some
from fedtransfer.simulations.report.blocks import Fact, Figure, Page, Section, Table
from fedtransfer.simulations.report.chart_data import Axis, Dot, Series
from fedtransfer.simulations.report.charts import DISTINCT, dot_chart, line_chart
from fedtransfer.simulations.report.reading import Run, real
from fedtransfer.simulations.report.runs import ACCURACY, BYTES, OF_SITES, ROUNDS, in_sections, setting
from fedtransfer.simulations.report.sentences import caption, fact, paragraphs, sentence, table
from fedtransfer.simulations.report.texts import NONE, listed, percent, pixels, power, printable

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
    again = paragraphs("run", "repeat_several")
    code = "\n".join(f"fedtransfer simulate --config {run.folder}/config.toml" for run in runs[:20])
    sections = [
        Section("runs", "The runs side by side", tables=[_side_by_side(runs)]),
        *in_sections(figures),
        Section("settings", "Settings that differ", tables=[_differences(runs)]),
        Section("repeat", "To repeat them", again, code=[code], tables=[_backbones(runs)]),
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
    """Answer for runs that differ: the best and worst on each data, promises, and the cheapest."""
    groups: list[dict[str, Any]] = []
    for data in dict.fromkeys(run.config.data for run in runs):
        members = [run for run in runs if run.config.data == data]
        if scored := [run for run in members if run.scored]:
            best, worst = (choose(scored, key=_accuracy) for choose in (max, min))
            private = [run for run in scored if math.isinf(best.epsilon) and not math.isinf(run.epsilon)]
            group = {"best": best, "worst": worst, "private": max(private, key=_accuracy, default=None)}
            number = len(members) if len(scored) > 1 else 1
            groups.append(group | {"runs": number, "own": _on_own_images([best])})
    one_seed = len({run.config.seed for run in runs}) == 1
    good = [fact("accuracy", "of_several", groups, one_seed)] if groups else []
    least, most = (choose(runs, key=lambda run: sum(run.bytes)) for choose in (min, max))
    return [*good, fact("privacy", "of_several", runs), fact("cost", "of_several", least, most)]


def _on_own_images(runs: Sequence[Run]) -> tuple[float, float] | None:
    """Return accuracy on own test images, with the federation's head and alone; means over runs."""
    pairs = []
    for run in runs:
        if alone := run.summary.get("baselines_on_own_test_images"):
            pairs.append((real(run.measured.get("mean_site_accuracy")), real(alone.get("local_mean"))))
    means = np.mean(pairs, axis=0).tolist() if pairs else [math.nan]
    return None if math.isnan(sum(means)) else (means[0], means[1])


def _side_by_side(runs: Sequence[Run]) -> Table:
    rows = []
    for run in runs:
        pooled = run.summary.get("baselines", {}).get("pooled")
        alone = run.summary.get("baselines_on_own_test_images", {}).get("local_mean")
        mean, worst = (run.measured.get(f"{name}_site_accuracy") for name in ("mean", "worst"))
        shares = map(percent, (run.accuracy, pooled, mean, alone, worst))
        rounds = NONE if run.config.closed_form else f"{run.summary['rounds']:,}"
        seconds = f"{run.summary['seconds'].get('rounds', math.nan):,.1f}"
        about = printable(run.name), sentence("privacy", "in_short", run), *shares
        rows.append([*about, "yes" if run.config.masks else "no", rounds, size(sum(run.bytes)), seconds])
    accuracies = [run.accuracy for run in runs if run.scored]
    several = len({round(accuracy, 6) for accuracy in accuracies}) > 1
    winner = several and _one_data(runs)
    marked = frozenset(i for i, run in enumerate(runs) if winner and run.accuracy == max(accuracies))
    one_shot = any(run.config.closed_form for run in runs)
    from_outside = any("measured_outside_the_federation" in run.summary for run in runs)
    facts = several, _one_data(runs), one_shot, from_outside
    return table("side_by_side", rows, *facts, marked=marked).shortened(where="the run folders")


def _differing(runs: Sequence[Run]) -> list[str]:
    """Return the names of settings that the runs do not agree in."""
    names = [name for name in type(runs[0].config).model_fields if name not in _WITHOUT_EFFECT]
    return [name for name in names if len({_value(run, name) for run in runs}) > 1]


def _value(run: Run, name: str) -> Any:
    """Return a setting, but no number of rounds of a one-shot head: it has no effect."""
    return NONE if name == "rounds" and run.config.closed_form else getattr(run.config, name)


def _differences(runs: Sequence[Run]) -> Table:
    columns = ["setting", *(printable(run.name, 40) for run in runs)]
    if len(runs) > _COLUMNS:
        columns = ["setting", "values, and how many runs have them"]
    rows, fields = [], _differing(runs)
    for field in fields:
        values = [setting(_value(run, field)) for run in runs]
        cells, counts = [printable(value, 40) for value in values], Counter(values).most_common()
        if len(runs) > _COLUMNS:
            cells = [some([f"{value} ({times})" for value, times in counts], 12)]
        rows.append([outside(field), *cells])
    note = sentence("tables", "differences", bool(fields))
    return Table("Settings that differ", columns, rows, note, texts=True)


def _backbones(runs: Sequence[Run]) -> Table:
    used: dict[tuple[str, str, str], list[str]] = {}
    for run in runs:
        backbone = run.summary["backbone"]
        resolution = pixels(backbone["name"], backbone["resolution"])
        key = printable(backbone["name"]), resolution, backbone["fingerprint"]
        used.setdefault(key, []).append(printable(run.name, 40))
    rows = []
    for key, names in used.items():
        rows.append([*key, ", ".join(names) if len(names) < _COLUMNS else counted(len(names), "run")])
    return table("backbones_of_runs", rows)


def _line(runs: Sequence[Run], run: Run, x: list[float], y: list[float], *, about: bool = False) -> Series:
    """Return a run's line in its look in all figures; of many runs only the best have one."""
    looks = {each.name: look for look, each in enumerate(runs)}
    if len(runs) > DISTINCT:
        ranked = sorted(runs, key=lambda each: each.accuracy if each.scored else -1.0)
        looks = {each.name: look for look, each in enumerate(ranked[:-DISTINCT:-1])}
    look = looks.get(run.name)
    name = f"{run.name}: {run.config.strategy}, one {run.config.dp}" if about else run.name
    return Series(name, x, y, joined=len(x) > 1, look=look, faint=look is None)


def _note(runs: Sequence[Run], lines: Sequence[Series]) -> str:
    faint = sum(line.faint for line in lines)
    return sentence("figures", "faint_lines", _one_data(runs), DISTINCT - 1, faint)


def _by_round(runs: Sequence[Run]) -> Figure | None:
    lines = [_line(runs, run, *run.curve("accuracy")) for run in runs]
    lines = [line for line in lines if len(line.x) > 1]
    if not lines:
        return None
    one_shot = [run for run in runs if run.config.closed_form and run.scored]
    once = [(f"{run.name}, one exchange", run.accuracy) for run in one_shot]
    ends = sorted(((line.name, line.y[-1]) for line in lines), key=lambda end: end[1])
    words = caption("runs_by_round", ends, _one_data(runs), _note(runs, lines))
    return line_chart(words, lines, ROUNDS, ACCURACY, once if len(once) <= 4 else ())


def _by_site(runs: Sequence[Run]) -> Figure | None:
    accuracy = [run.measured.get("site_accuracy") or {} for run in runs]
    alike = _one_data(runs) and all(set(scores) == set(accuracy[0]) for scores in accuracy)
    if len(runs) > _COLUMNS or not accuracy[0] or not alike:
        return None
    sites = sorted(accuracy[0], key=lambda site: -accuracy[0][site])
    dots = [Dot(site, tuple(scores[site] for scores in accuracy)) for site in sites]
    spread = max(dots, key=lambda dot: max(dot.values) - min(dot.values))
    words = caption("runs_by_site", len(dots), runs[0].name, spread.name, spread.values)
    columns = ["site", *(printable(run.name, 30) for run in runs)]
    return dot_chart(words, dots, columns, OF_SITES, file="summary.json")


def _by_epsilon(runs: Sequence[Run]) -> Figure | None:
    private = [run for run in runs if not math.isinf(run.epsilon) and run.scored]
    if len({round(run.epsilon, 6) for run in private}) < 2:
        return None
    lines = [_line(runs, run, [run.epsilon], [run.accuracy], about=True) for run in private]
    low, high = (choose(private, key=lambda run: run.epsilon) for choose in (min, max))
    deltas = {run.config.delta for run in private}
    label = f"ε at δ = {power(deltas.pop())}" if len(deltas) == 1 else "ε, each at its run's δ"
    bare = [run.accuracy for run in runs if run.privacy is None and run.scored]
    best = [("the best without a promise", max(bare))] if bare and _one_data(runs) else []
    words = caption("runs_by_epsilon", low, high, _note(runs, lines))
    return line_chart(words, lines, Axis(label, log=True, kind="epsilon"), ACCURACY, best)


def _by_bytes(runs: Sequence[Run]) -> Figure | None:
    lines = []
    for run in runs:
        x, y = run.traffic()
        if len(x) < 2 and run.scored:  # one exchange: one point
            x, y = [sum(run.bytes)], [run.accuracy]
        if x and x[0] > 0:
            lines.append(_line(runs, run, x, y))
    if not lines:
        return None
    least, most = min(lines, key=lambda line: line.x[-1]), max(lines, key=lambda line: line.y[-1])
    words = caption("runs_by_bytes", least, most, _one_data(runs), _note(runs, lines))
    return line_chart(words, lines, BYTES, ACCURACY)
