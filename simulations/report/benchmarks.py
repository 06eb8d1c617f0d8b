"""The sections about a benchmark: every setting's methods beside each other, accuracy against ε and bytes, and how it was done."""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from common.words import size
from simulations.report.benchmark_words import BASELINES, COSTS, NUMBERS, SHARES, by_setting, bytes_of, pair
from simulations.report.blocks import Figure, Section, Table, counted, listed, number, percent, power, shown
from simulations.report.charts import Axis, Dot, Series, distinct, dot_chart, line_chart
from simulations.report.reading import Benchmark, Row, real, rows_of
from simulations.report.runs import ACCURACY, BYTES, ROUNDS


def sections(benchmark: Benchmark) -> list[Section]:
    """Return a section a setting, and how the benchmark was made."""
    made = [_setting(benchmark, i, setting, rows) for i, (setting, rows) in enumerate(by_setting(benchmark).items())]
    return [*made, *_how(benchmark)]


def _setting(benchmark: Benchmark, i: int, setting: str, rows: Sequence[Row]) -> Section:
    key = f"setting-{i}"
    drawn = (
        _methods(key, setting, rows),
        _by_round(benchmark, key, setting),
        _by_epsilon(key, setting, rows),
        _by_bytes(key, setting, rows),
    )
    scores = _table("Scores", rows, {**SHARES, **NUMBERS})
    costs = _table("Costs", [row for row in rows if row["method"] not in BASELINES], COSTS)
    return Section(
        key,
        shown(setting, 100),
        figures=tuple(figure for figure in drawn if figure),
        tables=tuple(table for table in (scores, costs) if len(table.columns) > 1),
    )


def _methods(key: str, setting: str, rows: Sequence[Row]) -> Figure | None:
    known = sorted((row for row in rows if row["accuracy"]), key=lambda row: -real(row["accuracy"]))
    if not known:
        return None
    dots = []
    for row in known:
        mean, half = real(row["accuracy"]), real(row.get("accuracy_interval"))
        ends = None if math.isnan(half) else (mean - half, mean + half)
        place = row["method"] in BASELINES
        dots.append(
            Dot(row["method"], (math.nan, mean) if place else (mean, math.nan), (None, ends) if place else (ends, None))
        )
    description = (
        f"Best first: {shown(known[0]['method'], 40)} {pair(known[0], 'accuracy')}; last: "
        f"{shown(known[-1]['method'], 40)} {pair(known[-1], 'accuracy')}. Lines are 95 % intervals over seeds."
    )
    axis = Axis("accuracy on the common test set", kind="percent")
    return dot_chart(
        f"Accuracy by method, {shown(setting, 40)}",
        description,
        dots,
        ("federated", "baseline"),
        axis,
        (),
        "method",
        "table.csv",
    )


def _by_round(benchmark: Benchmark, key: str, setting: str) -> Figure | None:
    """Draw each method's accuracy by round, a mean over the seeds whose run folders are there.

    Those of no row of ``cells.csv`` are left from another plan.
    """
    made = {(cell["setting"], f"seed-{cell['seed']}", cell["method"]) for cell in benchmark.cells}
    runs: dict[str, list[list[float]]] = {}
    for file in sorted((benchmark.folder / "runs").glob("*/seed-*/*/history.csv")):
        if file.parts[-4] == setting and file.parts[-4:-1] in made:
            rows = [
                row
                for row in rows_of(file)
                if row["status"] == "ok" and row["phase"] in ("train", "score") and row["accuracy"]
            ]
            if len(rows) > 1:
                runs.setdefault(file.parts[-2], []).append([real(row["accuracy"]) for row in rows])
    lines = []
    for method, curves in runs.items():
        length = min(map(len, curves))
        lines.append(
            Series(
                method, list(map(float, range(length))), np.mean([curve[:length] for curve in curves], axis=0).tolist()
            )
        )
    if not lines:
        return None
    series, note = distinct(lines, lambda line: line.y[-1])
    best = max(lines, key=lambda line: line.y[-1])
    description = (
        f"{counted(len(lines), 'method')} with rounds of training, means over seeds; highest in the end: "
        f"{shown(best.name, 40)} with {percent(best.y[-1])}."
    )
    return line_chart(f"Accuracy by round, {shown(setting, 40)}", description, series, ROUNDS, ACCURACY, note=note)


def _by_epsilon(key: str, setting: str, rows: Sequence[Row]) -> Figure | None:
    groups: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows:
        if row.get("epsilon") and row["accuracy"]:
            groups.setdefault(_without_epsilon(row["method"]), []).append(
                (real(row["epsilon"]), real(row["accuracy"]), real(row.get("accuracy_interval")))
            )
    if not groups or len({point[0] for points in groups.values() for point in points}) < 2:
        return None
    lines = [Series(name, *_columns(points)) for name, points in groups.items()]
    series, note = distinct(lines, lambda line: line.y[-1])
    first, best = min(lines, key=lambda line: line.x[0]), max(lines, key=lambda line: max(line.y))
    description = (
        f"At the smallest ε, {number(first.x[0])}, {shown(first.name, 40)} has {percent(first.y[0])}; the highest of all "
        f"is {shown(best.name, 40)} with {percent(max(best.y))}. Bars are 95 % intervals over seeds."
    )
    deltas = {power(real(row.get("delta"))) for row in rows if row.get("epsilon")}
    axis = Axis(f"ε at δ = {listed(sorted(deltas))}", log=True)
    return line_chart(f"Accuracy against ε, {shown(setting, 40)}", description, series, axis, ACCURACY, note=note)


def _columns(points: list[tuple[float, float, float]]) -> tuple[Sequence[float], Sequence[float], Sequence[float]]:
    x, y, half = zip(*sorted(points), strict=True)
    return x, y, half


def _without_epsilon(method: str) -> str:
    """Return what methods share that differ in their ε alone, by their names: ``fed3r`` for ``fed3r-2`` and ``fed3r+epsilon=0.5``."""
    return re.sub(r"[\s,+_-]*\(?(?:epsilon|eps|ε)?\s*=?\s*[\d.]+\)?$", "", method) or method


def _by_bytes(key: str, setting: str, rows: Sequence[Row]) -> Figure | None:
    lines = [
        Series(row["method"], [bytes_of(row)], [real(row["accuracy"])], [real(row.get("accuracy_interval"))])
        for row in rows if row["method"] not in BASELINES and row["accuracy"] and bytes_of(row) > 0
    ]  # fmt: skip
    if len(lines) < 2:
        return None
    series, note = distinct(lines, lambda line: line.y[0])
    least, best = min(lines, key=lambda line: line.x[0]), max(lines, key=lambda line: line.y[0])
    description = (
        f"A point a method. Least bytes: {shown(least.name, 40)}, {size(least.x[0])} and {percent(least.y[0])}. Most "
        f"accurate: {shown(best.name, 40)}, {size(best.x[0])} and {percent(best.y[0])}."
    )
    return line_chart(
        f"Accuracy against bytes, {shown(setting, 40)}",
        description,
        series,
        BYTES,
        ACCURACY,
        note=note.replace("thin grey lines", "small grey points"),
    )


def _table(caption: str, rows: Sequence[Row], names: dict[str, str]) -> Table:
    """Lay out the measures that at least one row has."""
    there = [name for name in names if any(row.get(name) for row in rows)]
    facts = (
        [name for name in ("epsilon", "expected", "source") if any(row.get(name) for row in rows)]
        if "accuracy" in names
        else []
    )
    seeds = len({row.get("seeds") for row in rows}) > 1
    told = tuple(
        (
            shown(row["method"], 60),
            *([row["seeds"]] if seeds else []),
            *(pair(row, name) for name in there),
            *(_fact(row, name) for name in facts),
        )
        for row in rows
    )
    marked: frozenset[int] = frozenset()
    if "accuracy" in there:
        marked = frozenset(
            i
            for i, row in enumerate(rows)
            if row["accuracy"]
            == max((r["accuracy"] for r in rows if r["method"] not in BASELINES), key=real, default="")
            != ""
            and row["method"] not in BASELINES
        )
    columns = (
        "method",
        *(["seeds"] if seeds else []),
        *(names[name] for name in there),
        *({"epsilon": "ε"}.get(name, name) for name in facts),
    )
    note = "Means over seeds ± half of the 95 % interval." + (
        " In bold the most accurate federated method." if marked else ""
    )
    return Table(caption, columns, told, note, marked).shortened(where="table.csv")


def _fact(row: Row, name: str) -> str:
    value = row.get(name, "")
    if name == "source" or not value:
        return shown(value, 120)
    return percent(real(value)) if name == "expected" else number(real(value))


def _how(benchmark: Benchmark) -> list[Section]:
    about = benchmark.about
    tables = []
    if backbones := about.get("backbones"):
        columns = ("name", "resolution", "preprocessing", "fingerprint")
        tables.append(
            Table(
                "Backbones",
                columns,
                tuple(tuple(shown(told.get(name, "–"), 200) for name in columns) for told in backbones),
            )
        )
    for key, caption in (("tuning", "What was tuned"), ("expected", "Beside numbers from elsewhere")):
        if entries := about.get(key):
            columns = tuple(dict.fromkeys(name for entry in entries for name in entry))
            told = tuple(tuple(_told(entry, name) for name in columns) for entry in entries)
            tables.append(Table(caption, columns, told).shortened(where="benchmark.json"))
    seconds = about.get("seconds")
    if isinstance(seconds, dict):
        tables.append(
            Table(
                "Seconds", ("part", "seconds"), tuple((shown(part), f"{value:,.0f}") for part, value in seconds.items())
            )
        )
    text = [f"Left out: {shown(remark, 300)}" for remark in about.get("left_out") or []]
    text += [
        f"Failed: {shown(name, 100)}: {shown(error, 300)}" for name, error in (about.get("failures") or {}).items()
    ]
    sections = [Section("how", "How it was done", tuple(text[:40]), tables=tuple(tables))] if tables or text else []
    if benchmark.plan:
        sections.append(Section("plan", "Configuration: the plan", code=(benchmark.plan,), folded=True))
    if command := about.get("command"):
        sections.append(Section("repeat", "To repeat it", code=(shown(command, 2000),)))
    return sections


def _told(entry: Mapping[str, object], name: str) -> str:
    return "not run" if name == "measured" and entry.get(name) is None else _any(entry.get(name))


def _any(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return shown(", ".join(f"{name} {_any(inner)}" for name, inner in value.items()), 300)
    return shown(", ".join(map(_any, value)), 300) if isinstance(value, list) else shown(value, 300)
