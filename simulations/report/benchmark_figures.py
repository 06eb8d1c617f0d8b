"""The figures of a benchmark's setting: by method, by round, against ε and against bytes; a method has one colour in all."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

from fedtransfer.common.support.text import counted, size
from fedtransfer.simulations.report.benchmark_best import family, federated
from fedtransfer.simulations.report.benchmark_measures import bars, bytes_of, measure, told
from fedtransfer.simulations.report.benchmark_words import rising_methods
from fedtransfer.simulations.report.blocks import Figure, epsilon, listed, percent, power, shown
from fedtransfer.simulations.report.chart_data import Axis, Dot, Series
from fedtransfer.simulations.report.charts import TOLD, distinct, dot_chart, line_chart
from fedtransfer.simulations.report.reading import Benchmark, Row, real
from fedtransfer.simulations.report.runs import ACCURACY, BYTES, ROUNDS
from fedtransfer.simulations.scoring.measures import BASELINES

_NAMED = 2 * TOLD  # each colour with two markers


def figures(
    benchmark: Benchmark, setting: str, rows: Sequence[Row], known: Mapping[str, Sequence[float]]
) -> tuple[Figure, ...]:
    """Draw what there is to see of a setting, whose ``curves`` are known."""
    drawn = (
        _methods(benchmark, setting, rows),
        _by_round(benchmark, setting, known),
        _by_epsilon(benchmark, setting, rows),
        _by_bytes(benchmark, setting, rows),
    )
    return tuple(figure for figure in drawn if figure)


def _families(benchmark: Benchmark) -> dict[str, tuple[str, int]]:
    """Return method → its family, the methods that differ in their ε alone, and the number of the look that this has.

    Methods are told to do so by their names: ``fed3r+epsilon=0.5`` is of the family ``fed3r``, or ``fed3r with ε`` beside a
    ``fed3r`` without.
    """
    rows = [row for row in benchmark.table if row["method"] not in BASELINES]
    bare = {row["method"] for row in rows if not row.get("epsilon")}
    families, looks = dict[str, tuple[str, int]](), dict[str, int]()
    for row in rows:
        name = row["method"]
        if row.get("epsilon"):
            name = family(row["method"])
            name += " with ε" * (name in bare and name != row["method"])
        families[row["method"]] = name, looks.setdefault(name, len(looks))
    return families


def _methods(benchmark: Benchmark, setting: str, rows: Sequence[Row]) -> Figure | None:
    known = sorted((row for row in rows if row["accuracy"]), key=lambda row: -real(row["accuracy"]))
    if not known:
        return None
    families, dots = _families(benchmark), []
    columns = ("federated", "baseline") if any(row["method"] in families for row in known) else ("baseline",)
    for row in known:
        mean, ends = real(row["accuracy"]), measure(benchmark, row, "accuracy").ends
        if row["method"] in families:
            dots.append(Dot(row["method"], (mean, math.nan), (ends, None), families[row["method"]][1]))
        else:
            dots.append(Dot(row["method"], (math.nan, mean)[-len(columns) :], (None, ends)[-len(columns) :]))
    first, last = known[0], known[-1]
    description = (
        f"Best first: {shown(first['method'], 40)} {told(benchmark, first, 'accuracy')}; last: "
        f"{shown(last['method'], 40)} {told(benchmark, last, 'accuracy')}."
    )
    if len(columns) > 1:
        description += " Federated methods are in the colours of the other figures, baselines grey and open."
    description += bars(benchmark)
    axis = Axis("accuracy on the common test set", kind="percent")
    return dot_chart(
        f"Accuracy by method, {shown(setting, 40)}",
        description,
        dots,
        columns,
        axis,
        (),
        "method",
        "table.csv",
    )


def _by_round(benchmark: Benchmark, setting: str, known: Mapping[str, Sequence[float]]) -> Figure | None:
    """Draw each method's accuracy by round, a mean over the seeds whose run folders are there."""
    families = _families(benchmark)
    lines = [
        Series(method, list(map(float, range(len(curve)))), curve, look=families[method][1])
        for method, curve in known.items()
    ]
    if not lines:
        return None
    series, note = distinct(lines, lambda line: line.y[-1], _NAMED)
    best = max(lines, key=lambda line: line.y[-1])
    description = (
        f"{counted(len(lines), 'method')} with rounds of training, means over seeds; highest in the end: "
        f"{shown(best.name, 40)} with {percent(best.y[-1])}."
    )
    if rise := rising_methods(known):
        description += (
            f" {rise}: the mean accuracy of the last fifth of rounds is clearly above that of the fifth before."
        )
    return line_chart(f"Accuracy by round, {shown(setting, 40)}", description, series, ROUNDS, ACCURACY, note=note)


def _by_epsilon(benchmark: Benchmark, setting: str, rows: Sequence[Row]) -> Figure | None:
    private = [row for row in rows if row.get("epsilon") and row["accuracy"]]
    if len({real(row["epsilon"]) for row in private}) < 2:
        return None
    lines = _lines(benchmark, private, "epsilon")
    series, note = distinct(lines, lambda line: line.y[-1], _NAMED)
    first, best = min(lines, key=lambda line: line.x[0]), max(lines, key=lambda line: max(line.y))
    description = (
        f"At the smallest ε, {epsilon(first.x[0])}, {shown(first.name, 40)} has {percent(first.y[0])}; the highest of all "
        f"is {shown(best.name, 40)} with {percent(max(best.y))}.{bars(benchmark)}"
    )
    deltas = {power(real(row.get("delta"))) for row in private}
    axis = Axis(f"ε at δ = {listed(sorted(deltas))}", log=True, kind="epsilon")
    return line_chart(f"Accuracy against ε, {shown(setting, 40)}", description, series, axis, ACCURACY, note=note)


def _by_bytes(benchmark: Benchmark, setting: str, rows: Sequence[Row]) -> Figure | None:
    made = [row for row in federated(rows) if bytes_of(row) > 0]
    if len(made) < 2:
        return None
    least, best = min(made, key=bytes_of), max(made, key=lambda row: real(row["accuracy"]))
    description = "A point a method. " + " ".join(
        f"{what}: {shown(row['method'], 40)}, {size(bytes_of(row))} and {percent(real(row['accuracy']))}."
        for what, row in (("Least bytes", least), ("Most accurate", best))
    )
    if pairs := [(a, b) for a, b in combinations(made, 2) if _together(a, b)][:3]:
        names = [f"{shown(a['method'], 40)} and {shown(b['method'], 40)}" for a, b in pairs]
        description += f" Almost on one another: {'; '.join(names)}."
    series, note = distinct(_lines(benchmark, made, "bytes"), lambda line: line.y[0], _NAMED)
    return line_chart(
        f"Accuracy against bytes, {shown(setting, 40)}",
        description + bars(benchmark),
        series,
        BYTES,
        ACCURACY,
        note=note.replace("thin grey lines", "small grey points, named among the numbers"),
    )


def _together(a: Row, b: Row) -> bool:
    """Whether the points of two methods cover each other."""
    bytes_, accuracy = (bytes_of(a), bytes_of(b)), (real(a["accuracy"]), real(b["accuracy"]))
    return max(bytes_) < 1.03 * min(bytes_) and abs(accuracy[0] - accuracy[1]) < 0.01


def _lines(benchmark: Benchmark, rows: Sequence[Row], against: str) -> list[Series]:
    """Return a series a family: lines against ε; against bytes points, each with its ε beside it."""
    families, groups = _families(benchmark), dict[tuple[str, int], list[Row]]()
    for row in rows:
        groups.setdefault(families[row["method"]], []).append(row)
    lines = []
    for (name, look), mine in groups.items():
        mine.sort(key=lambda row: real(row["epsilon"] or "nan"))
        x = [real(row["epsilon"]) if against == "epsilon" else bytes_of(row) for row in mine]
        lines.append(
            Series(
                name,
                x,
                [real(row["accuracy"]) for row in mine],
                [measure(benchmark, row, "accuracy").ends for row in mine],
                joined=against == "epsilon",
                look=look,
                labels=[f"ε = {epsilon(real(row['epsilon']))}" if row.get("epsilon") else "" for row in mine]
                if against == "bytes"
                else (),
            )
        )
    return lines
