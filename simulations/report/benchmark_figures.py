"""The figures of a benchmark's setting: by method, by round, against ε and against bytes; a method has one colour in all."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

from fedtransfer.simulations.report.benchmark_answer import rising_methods
from fedtransfer.simulations.report.benchmark_best import family, federated
from fedtransfer.simulations.report.benchmark_measures import bytes_of, ends, seed_counts, text_of
from fedtransfer.simulations.report.blocks import Figure, epsilon, listed, power
from fedtransfer.simulations.report.chart_data import Axis, Dot, Series
from fedtransfer.simulations.report.charts import DISTINCT, distinct, dot_chart, line_chart
from fedtransfer.simulations.report.reading import Benchmark, Row, real
from fedtransfer.simulations.report.runs import ACCURACY, BYTES, ROUNDS
from fedtransfer.simulations.report.sentences import caption
from fedtransfer.simulations.scoring.measures import BASELINES

_NAMED = 2 * DISTINCT  # each colour with two markers


def figures(
    benchmark: Benchmark, setting: str, rows: Sequence[Row], curves: Mapping[str, Sequence[float]]
) -> tuple[Figure, ...]:
    """Draw a setting: ``rows`` of its table, ``curves`` of its methods with rounds."""
    drawings = (
        _methods(benchmark, setting, rows),
        _by_round(benchmark, setting, curves),
        _by_epsilon(benchmark, setting, rows),
        _by_bytes(benchmark, setting, rows),
    )
    return tuple(figure for figure in drawings if figure)


def _families(benchmark: Benchmark) -> dict[str, tuple[str, int]]:
    """Return method → its family, the methods that differ only in ε, and the number of the family's look.

    Names decide: ``fed3r+epsilon=0.5`` is of the family ``fed3r``, or ``fed3r with ε`` if there is a ``fed3r`` without.
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
    scored = sorted((row for row in rows if row["accuracy"]), key=lambda row: -real(row["accuracy"]))
    if not scored:
        return None
    families, dots = _families(benchmark), []
    columns = ("federated", "baseline") if any(row["method"] in families for row in scored) else ("baseline",)
    for row in scored:
        mean, interval = real(row["accuracy"]), ends(benchmark, row, "accuracy")
        if row["method"] in families:
            dots.append(Dot(row["method"], (mean, math.nan), (interval, None), families[row["method"]][1]))
        else:
            dots.append(Dot(row["method"], (math.nan, mean)[-len(columns) :], (None, interval)[-len(columns) :]))
    first, last = ((row["method"], text_of(benchmark, row, "accuracy")) for row in (scored[0], scored[-1]))
    words = caption("methods", setting, first, last, len(columns) > 1, seed_counts(benchmark))
    axis = Axis("accuracy on the common test set", kind="percent")
    return dot_chart(words, dots, ("method", *columns), axis, file="table.csv")


def _by_round(benchmark: Benchmark, setting: str, curves: Mapping[str, Sequence[float]]) -> Figure | None:
    """Draw each method's accuracy by round, a mean over the seeds whose run folders are there."""
    families = _families(benchmark)
    lines = [
        Series(method, list(map(float, range(len(curve)))), curve, look=families[method][1])
        for method, curve in curves.items()
    ]
    if not lines:
        return None
    series, note = distinct(lines, lambda line: line.y[-1], _NAMED)
    best = max(lines, key=lambda line: line.y[-1])
    words = caption("methods_by_round", setting, len(lines), best, rising_methods(curves), note)
    return line_chart(words, series, ROUNDS, ACCURACY)


def _by_epsilon(benchmark: Benchmark, setting: str, rows: Sequence[Row]) -> Figure | None:
    private = [row for row in rows if row.get("epsilon") and row["accuracy"]]
    if len({real(row["epsilon"]) for row in private}) < 2:
        return None
    lines = _lines(benchmark, private, "epsilon")
    series, note = distinct(lines, lambda line: line.y[-1], _NAMED)
    first, best = min(lines, key=lambda line: line.x[0]), max(lines, key=lambda line: max(line.y))
    deltas = {power(real(row.get("delta"))) for row in private}
    axis = Axis(f"ε at δ = {listed(sorted(deltas))}", log=True, kind="epsilon")
    words = caption("methods_by_epsilon", setting, first, best, seed_counts(benchmark), note)
    return line_chart(words, series, axis, ACCURACY)


def _by_bytes(benchmark: Benchmark, setting: str, rows: Sequence[Row]) -> Figure | None:
    methods = [row for row in federated(rows) if bytes_of(row) > 0]
    if len(methods) < 2:
        return None
    points = [(row["method"], bytes_of(row), real(row["accuracy"])) for row in methods]
    least, best = min(points, key=lambda point: point[1]), max(points, key=lambda point: point[2])
    overlaps = [(a["method"], b["method"]) for a, b in combinations(methods, 2) if _together(a, b)][:3]
    series, note = distinct(_lines(benchmark, methods, "bytes"), lambda line: line.y[0], _NAMED)
    words = caption("methods_by_bytes", setting, least, best, overlaps, seed_counts(benchmark), note)
    return line_chart(words, series, BYTES, ACCURACY)


def _together(a: Row, b: Row) -> bool:
    """Whether the points of two methods cover each other."""
    bytes_, accuracy = (bytes_of(a), bytes_of(b)), (real(a["accuracy"]), real(b["accuracy"]))
    return max(bytes_) < 1.03 * min(bytes_) and abs(accuracy[0] - accuracy[1]) < 0.01


def _lines(benchmark: Benchmark, rows: Sequence[Row], against: str) -> list[Series]:
    """Return a series a family: lines against ε; against bytes points, each with its ε next to it."""
    families, groups = _families(benchmark), dict[tuple[str, int], list[Row]]()
    for row in rows:
        groups.setdefault(families[row["method"]], []).append(row)
    lines = []
    for (name, look), members in groups.items():
        members.sort(key=lambda row: real(row["epsilon"] or "nan"))
        x = [real(row["epsilon"]) if against == "epsilon" else bytes_of(row) for row in members]
        lines.append(
            Series(
                name,
                x,
                [real(row["accuracy"]) for row in members],
                [ends(benchmark, row, "accuracy") for row in members],
                joined=against == "epsilon",
                look=look,
                labels=[f"ε = {epsilon(real(row['epsilon']))}" if row.get("epsilon") else "" for row in members]
                if against == "bytes"
                else (),
            )
        )
    return lines
