"""The figures of a benchmark's setting; a method has one colour in all of them."""

import math
from collections.abc import Sequence
from itertools import combinations

from fedtransfer.simulations.report.benchmark_measures import Result, Results, results
from fedtransfer.simulations.report.benchmark_runs import Curves, rising_methods
from fedtransfer.simulations.report.blocks import Figure
from fedtransfer.simulations.report.chart_data import Axis, Dot, Series
from fedtransfer.simulations.report.charts import DISTINCT, distinct, dot_chart, line_chart
from fedtransfer.simulations.report.reading import Benchmark, real
from fedtransfer.simulations.report.runs import ACCURACY, BYTES, ROUNDS
from fedtransfer.simulations.report.sentences import caption
from fedtransfer.simulations.report.texts import listed, power
from fedtransfer.simulations.scoring.estimate import BASELINES

_NAMED = 2 * DISTINCT  # each colour with two markers


def figures(benchmark: Benchmark, setting: str, group: Results, curves: Curves) -> list[Figure]:
    """Draw a setting: accuracy by method, by round from ``curves``, against ε and against bytes."""
    drawings = [_methods(benchmark, setting, group), _by_round(benchmark, setting, curves)]
    drawings += [_by_epsilon(benchmark, setting, group), _by_bytes(benchmark, setting, group)]
    return [figure for figure in drawings if figure]


def _families(benchmark: Benchmark) -> dict[str, tuple[str, int]]:
    """Return method → its family, the methods that differ only in ε, and the number of its look.

    ``fed3r+epsilon=0.5`` is of the family ``fed3r``, or ``fed3r with ε`` if there is one without.
    """
    methods = [result for result in results(benchmark) if result.method not in BASELINES]
    bare = {result.method for result in methods if not result.level}
    families, looks = dict[str, tuple[str, int]](), dict[str, int]()
    for result in methods:
        name = result.family + " with ε" * (result.family in bare and result.family != result.method)
        families[result.method] = name, looks.setdefault(name, len(looks))
    return families


def _methods(benchmark: Benchmark, setting: str, group: Results) -> Figure | None:
    scored = sorted((one for one in group if one.row["accuracy"]), key=lambda one: -one.accuracy)
    if not scored:
        return None
    families, dots = _families(benchmark), []
    columns = ["federated", "baseline"] if any(one.method in families for one in scored) else ["baseline"]
    for one in scored:
        if one.method in families:
            dots.append(Dot(one.method, (one.accuracy, math.nan), (one.ends, None), families[one.method][1]))
        else:
            values, intervals = (math.nan, one.accuracy), (None, one.ends)
            dots.append(Dot(one.method, values[-len(columns) :], intervals[-len(columns) :]))
    words = caption("methods", setting, scored[0], scored[-1], len(columns) > 1, benchmark.seed_counts)
    axis = Axis("accuracy on the common test set", kind="percent")
    return dot_chart(words, dots, ["method", *columns], axis, file="table.csv")


def _by_round(benchmark: Benchmark, setting: str, curves: Curves) -> Figure | None:
    """Draw each method's accuracy by round, a mean over the seeds whose run folders are there."""
    looks = {method: look for method, (_, look) in _families(benchmark).items()}
    lines = [Series(name, [*range(len(curve))], curve, look=looks[name]) for name, curve in curves.items()]
    if not lines:
        return None
    series, note = distinct(lines, lambda line: line.y[-1], _NAMED)
    best = max(lines, key=lambda line: line.y[-1])
    words = caption("methods_by_round", setting, len(lines), best, rising_methods(curves), note)
    return line_chart(words, series, ROUNDS, ACCURACY)


def _by_epsilon(benchmark: Benchmark, setting: str, group: Results) -> Figure | None:
    private = [result for result in group if result.level and result.row["accuracy"]]
    if len({result.epsilon for result in private}) < 2:
        return None
    lines = _lines(benchmark, private, against="epsilon")
    series, note = distinct(lines, lambda line: line.y[-1], _NAMED)
    first, best = min(lines, key=lambda line: line.x[0]), max(lines, key=lambda line: max(line.y))
    deltas = {power(real(result.row.get("delta"))) for result in private}
    axis = Axis(f"ε at δ = {listed(sorted(deltas))}", log=True, kind="epsilon")
    words = caption("methods_by_epsilon", setting, first, best, benchmark.seed_counts, note)
    return line_chart(words, series, axis, ACCURACY)


def _by_bytes(benchmark: Benchmark, setting: str, group: Results) -> Figure | None:
    methods = [result for result in group.federated if result.bytes > 0]
    if len(methods) < 2:
        return None
    least, best = min(methods, key=lambda one: one.bytes), max(methods, key=lambda one: one.accuracy)
    overlaps = [pair for pair in combinations(methods, 2) if _together(*pair)][:3]
    series, note = distinct(_lines(benchmark, methods, against="bytes"), lambda line: line.y[0], _NAMED)
    words = caption("methods_by_bytes", setting, least, best, overlaps, benchmark.seed_counts, note)
    return line_chart(words, series, BYTES, ACCURACY)


def _together(a: Result, b: Result) -> bool:
    """Whether the points of two methods cover each other."""
    return max(a.bytes, b.bytes) < 1.03 * min(a.bytes, b.bytes) and abs(a.accuracy - b.accuracy) < 0.01


def _lines(benchmark: Benchmark, group: Sequence[Result], against: str) -> list[Series]:
    """Return a series a family: lines against ε; against bytes points, with ε next to each."""
    families, groups = _families(benchmark), dict[tuple[str, int], list[Result]]()
    for result in group:
        groups.setdefault(families[result.method], []).append(result)
    joined, lines = against == "epsilon", []
    for (name, look), members in groups.items():
        members.sort(key=lambda one: one.epsilon)
        x, y = [getattr(one, against) for one in members], [one.accuracy for one in members]
        labels = [] if joined else [f"ε = {one.level}" * bool(one.level) for one in members]
        ends = [one.ends for one in members]
        lines.append(Series(name, x, y, ends, joined=joined, look=look, labels=labels))
    return lines
