"""The sections that compare several runs."""

import math
from collections import Counter
from collections.abc import Sequence

from common.settings.option import outside
from common.words import size
from simulations.report.blocks import Figure, Section, Table, counted, number, percent, power, shown
from simulations.report.charts import Axis, Dot, Level, Series, distinct, dot_chart, line_chart
from simulations.report.reading import Run
from simulations.report.runs import ACCURACY, BYTES, ROUNDS, setting

_PLACES = {"out", "store", "prepared", "resume", "log_json", "threads"}  # settings that change no result
_BESIDE = 6  # at most as many runs stand beside each other as columns


def differing(runs: Sequence[Run]) -> list[str]:
    """Return the names of settings that the runs do not agree in."""
    names = [name for name in type(runs[0].config).model_fields if name not in _PLACES]
    return [name for name in names if len({getattr(run.config, name) for run in runs}) > 1]


def sections(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Return what there is to compare."""
    figures = {
        ("accuracy", "Accuracy by round"): _by_round(runs, names),
        ("sites", "Accuracy by site"): _by_site(runs, names),
        ("epsilon", "Accuracy against ε"): _by_epsilon(runs),
        ("bytes", "Accuracy against bytes"): _by_bytes(runs, names),
    }
    drawn = [Section(key, title, figures=(figure,)) for (key, title), figure in figures.items() if figure]
    return [
        Section("runs", "The runs side by side", tables=(_side_by_side(runs, names),)),
        *drawn,
        Section("settings", "Settings that differ", tables=(_differences(runs, names),)),
        Section(
            "repeat", "To repeat them", ("Each from its own settings, bit for bit from the same feature store:",),
            code=("\n".join(f"fedtransfer simulate --config {run.folder}/config.toml" for run in runs[:20]),),
            tables=(_backbones(runs, names),),
        ),
    ]  # fmt: skip


def _side_by_side(runs: Sequence[Run], names: Sequence[str]) -> Table:
    best = max((run.accuracy for run in runs if not math.isnan(run.accuracy)), default=math.nan)
    rows = tuple(
        (
            shown(name), percent(run.accuracy), percent(run.measured.get("mean_site_accuracy")), percent(run.measured.get("worst_site_accuracy")),
            percent(run.summary.get("baselines", {}).get("pooled")), _promise(run), "yes" if run.config.masks else "no", f"{run.summary['rounds']:,}",
            size(sum(run.bytes)), f"{run.summary['seconds'].get('rounds', math.nan):,.1f}",
        )
        for run, name in zip(runs, names, strict=True)
    )  # fmt: skip
    columns = (
        "run", "accuracy", "own images, mean", "own images, worst site", "all in one place", "differential privacy", "masks", "rounds",
        "bytes a site", "seconds of rounds",
    )  # fmt: skip
    note = (
        "In bold the highest accuracy."
        if len({round(run.accuracy, 6) for run in runs if not math.isnan(run.accuracy)}) > 1
        else ""
    )
    marked = frozenset(i for i, run in enumerate(runs) if note and run.accuracy == best)
    if any("measured_outside_the_federation" in run.summary for run in runs):
        note += (
            " Where sites keep scores to themselves, accuracy was measured from outside the simulation: a real federation "
            "would not know it."
        )
    return Table("The runs", columns, rows, note.strip(), marked).shortened(where="the run folders")


def _promise(run: Run) -> str:
    told = run.privacy
    if told is None:
        return "no promise"
    epsilon = "unbounded" if told["epsilon"] is None else number(told["epsilon"])
    return f"ε = {epsilon} at δ = {power(told['delta'])}, one {told['unit']}"


def _differences(runs: Sequence[Run], names: Sequence[str]) -> Table:
    fields = differing(runs)
    if len(runs) <= _BESIDE:
        rows = tuple(
            (outside(field), *(shown(setting(getattr(run.config, field)), 40) for run in runs)) for field in fields
        )
        columns = ("setting", *(shown(name, 40) for name in names))
    else:
        columns = ("setting", "values, and how many runs have them")
        counts = [Counter(setting(getattr(run.config, field)) for run in runs) for field in fields]
        rows = tuple(
            (
                outside(field),
                ", ".join(f"{value} ({times})" for value, times in count.most_common(12)) + ", …" * (len(count) > 12),
            )
            for field, count in zip(fields, counts, strict=True)
        )
    note = "All other settings agree." if fields else "None: all settings agree."
    return Table("Settings that differ", columns, rows, note, texts=True)


def _backbones(runs: Sequence[Run], names: Sequence[str]) -> Table:
    used: dict[tuple[str, str, str], list[str]] = {}
    for run, name in zip(runs, names, strict=True):
        told = run.summary["backbone"]
        used.setdefault((shown(told["name"]), f"{told['resolution']} px", told["fingerprint"]), []).append(
            shown(name, 40)
        )
    rows = tuple(
        (*key, ", ".join(mine) if len(mine) < _BESIDE else counted(len(mine), "run")) for key, mine in used.items()
    )
    return Table("Backbones", ("name", "resolution", "fingerprint", "runs"), rows)


def _by_round(runs: Sequence[Run], names: Sequence[str]) -> Figure | None:
    lines = [Series(name, *run.curve("accuracy")) for run, name in zip(runs, names, strict=True)]
    lines = [line for line in lines if len(line.x) > 1]
    if not lines:
        return None
    once = [
        Level(f"{name}, one exchange", run.accuracy)
        for run, name in zip(runs, names, strict=True) if run.config.closed_form and not math.isnan(run.accuracy)
    ]  # fmt: skip
    last = sorted(lines, key=lambda line: line.y[-1])
    series, note = distinct(lines, lambda line: line.y[-1])
    description = (
        f"{counted(len(lines), 'run')} with rounds of training: after its last round the highest is "
        f"{shown(last[-1].name, 40)} with "
        f"{percent(last[-1].y[-1])}, "
        f"the lowest {shown(last[0].name, 40)} with {percent(last[0].y[-1])} of the test images."
    )
    return line_chart(
        "Accuracy by round", description, series, ROUNDS, ACCURACY, once if len(once) <= 4 else (), note=note
    )


def _by_site(runs: Sequence[Run], names: Sequence[str]) -> Figure | None:
    accuracy = [run.measured.get("site_accuracy") or {} for run in runs]
    if len(runs) > _BESIDE or not accuracy[0] or any(set(mine) != set(accuracy[0]) for mine in accuracy):
        return None
    dots = [
        Dot(site, tuple(mine[site] for mine in accuracy))
        for site in sorted(accuracy[0], key=lambda site: -accuracy[0][site])
    ]
    spread = max(dots, key=lambda dot: max(dot.values) - min(dot.values))
    description = (
        f"{counted(len(dots), 'site')}, in the order of {shown(names[0], 40)}. Runs differ most at "
        f"{shown(spread.name, 40)}: "
        f"from {percent(min(spread.values))} to {percent(max(spread.values))}."
    )
    axis = Axis("accuracy on the site's own test images", kind="percent")
    return dot_chart(
        "Accuracy by site", description, dots, [shown(name, 30) for name in names], axis, (), "site", "summary.json"
    )


def _by_epsilon(runs: Sequence[Run]) -> Figure | None:
    private = [run for run in runs if not math.isinf(run.epsilon) and not math.isnan(run.accuracy)]
    if len({round(run.epsilon, 6) for run in private}) < 2:
        return None
    groups: dict[str, list[tuple[float, float]]] = {}
    for run in private:
        groups.setdefault(f"{run.config.strategy}, one {run.config.dp}", []).append((run.epsilon, run.accuracy))
    series = []
    for name, points in groups.items():
        x, y = zip(*sorted(points), strict=True)
        series.append(Series(name, x, y, joined=False))
    low, high = min(private, key=lambda run: run.epsilon), max(private, key=lambda run: run.epsilon)
    description = (
        f"A point a run. At ε = {number(low.epsilon)} accuracy is {percent(low.accuracy)}, at ε = {number(high.epsilon)} "
        f"it is {percent(high.accuracy)}."
    )
    deltas = {run.config.delta for run in private}
    axis = Axis(f"ε at δ = {power(deltas.pop())}" if len(deltas) == 1 else "ε, each at its run's δ", log=True)
    bare = [run.accuracy for run in runs if run.privacy is None and not math.isnan(run.accuracy)]
    best = [Level("the best without a promise", max(bare))] if bare else []
    return line_chart("Accuracy against ε", description, series, axis, ACCURACY, best)


def _by_bytes(runs: Sequence[Run], names: Sequence[str]) -> Figure | None:
    lines = []
    for run, name in zip(runs, names, strict=True):
        x, y = run.traffic()
        if len(x) < 2 and not math.isnan(run.accuracy):  # one exchange: one point
            x, y = [sum(run.bytes)], [run.accuracy]
        if x and x[0] > 0:
            lines.append(Series(name, x, y))
    if not lines:
        return None
    series, note = distinct(lines, lambda line: line.y[-1])
    least = min(lines, key=lambda line: line.x[-1])
    most = max(lines, key=lambda line: line.y[-1])
    description = (
        f"Least bytes: {shown(least.name, 40)} with {size(least.x[-1])} to and from a site and {percent(least.y[-1])}. "
        f"Highest accuracy in the end: {shown(most.name, 40)} with {size(most.x[-1])} and {percent(most.y[-1])}."
    )
    return line_chart("Accuracy against bytes to and from a site", description, series, BYTES, ACCURACY, note=note)
