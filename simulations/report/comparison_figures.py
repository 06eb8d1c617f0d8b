"""The figures that compare several runs; a run has one colour in all of them."""

import math
from collections.abc import Sequence

from fedtransfer.simulations.report.blocks import Figure, Section, power, printable
from fedtransfer.simulations.report.chart_data import Axis, Dot, Level, Series
from fedtransfer.simulations.report.charts import DISTINCT, dot_chart, line_chart
from fedtransfer.simulations.report.comparison_answer import by_data
from fedtransfer.simulations.report.reading import Run
from fedtransfer.simulations.report.runs import ACCURACY, BYTES, ROUNDS
from fedtransfer.simulations.report.sentences import caption, sentence

_BY_SITE = 6  # most runs in the chart by site


def figures(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Return a section for each figure that has data."""
    charts = {
        ("accuracy", "Accuracy by round"): _by_round(runs, names),
        ("sites", "Accuracy by site"): _by_site(runs, names),
        ("epsilon", "Accuracy against ε"): _by_epsilon(runs, names),
        ("bytes", "Accuracy against bytes"): _by_bytes(runs, names),
    }
    return [Section(key, title, figures=(figure,)) for (key, title), figure in charts.items() if figure]


def _looks(runs: Sequence[Run]) -> list[int | None]:
    """Return each run's look in all figures; of many runs only the most accurate have one."""
    if len(runs) <= DISTINCT:
        return list(range(len(runs)))
    ranked = sorted(range(len(runs)), key=lambda i: -1.0 if math.isnan(runs[i].accuracy) else runs[i].accuracy)
    chosen = {run: look for look, run in enumerate(ranked[:-DISTINCT:-1])}
    return [chosen.get(i) for i in range(len(runs))]


def _note(runs: Sequence[Run], lines: Sequence[Series]) -> str:
    faint = sum(line.faint for line in lines)
    return sentence("figures", "faint_lines", len(by_data(runs)) == 1, DISTINCT - 1, faint)


def _by_round(runs: Sequence[Run], names: Sequence[str]) -> Figure | None:
    lines = [
        Series(name, *run.curve("accuracy"), look=look, faint=look is None)
        for run, name, look in zip(runs, names, _looks(runs), strict=True)
    ]
    lines = [line for line in lines if len(line.x) > 1]
    if not lines:
        return None
    once = [
        Level(f"{name}, one exchange", run.accuracy)
        for run, name in zip(runs, names, strict=True) if run.config.closed_form and not math.isnan(run.accuracy)
    ]  # fmt: skip
    lines_in_order = sorted(lines, key=lambda line: line.y[-1])
    words = caption(
        "runs_by_round",
        [(line.name, line.y[-1]) for line in lines_in_order],
        len(by_data(runs)) == 1,
        _note(runs, lines),
    )
    return line_chart(words, lines, ROUNDS, ACCURACY, once if len(once) <= 4 else ())


def _by_site(runs: Sequence[Run], names: Sequence[str]) -> Figure | None:
    accuracy = [run.measured.get("site_accuracy") or {} for run in runs]
    if len(runs) > _BY_SITE or not accuracy[0] or any(set(scores) != set(accuracy[0]) for scores in accuracy):
        return None
    if len(by_data(runs)) > 1:  # sites of one name, and nothing else in common
        return None
    dots = [
        Dot(site, tuple(scores[site] for scores in accuracy))
        for site in sorted(accuracy[0], key=lambda site: -accuracy[0][site])
    ]
    spread = max(dots, key=lambda dot: max(dot.values) - min(dot.values))
    words = caption("runs_by_site", len(dots), names[0], spread.name, spread.values)
    axis = Axis("accuracy on the site's own test images", kind="percent")
    return dot_chart(words, dots, ("site", *(printable(name, 30) for name in names)), axis, file="summary.json")


def _by_epsilon(runs: Sequence[Run], names: Sequence[str]) -> Figure | None:
    lines, private = [], []
    for run, name, look in zip(runs, names, _looks(runs), strict=True):
        if not math.isinf(run.epsilon) and not math.isnan(run.accuracy):
            about = f"{name}: {run.config.strategy}, one {run.config.dp}"
            lines.append(Series(about, [run.epsilon], [run.accuracy], joined=False, look=look, faint=look is None))
            private.append(run)
    if len({round(run.epsilon, 6) for run in private}) < 2:
        return None
    low, high = min(private, key=lambda run: run.epsilon), max(private, key=lambda run: run.epsilon)
    deltas = {run.config.delta for run in private}
    label = f"ε at δ = {power(deltas.pop())}" if len(deltas) == 1 else "ε, each at its run's δ"
    bare = [run.accuracy for run in runs if run.privacy is None and not math.isnan(run.accuracy)]
    best = [Level("the best without a promise", max(bare))] if bare and len(by_data(runs)) == 1 else []
    axis = Axis(label, log=True, kind="epsilon")
    words = caption("runs_by_epsilon", low, high, _note(runs, lines))
    return line_chart(words, lines, axis, ACCURACY, best)


def _by_bytes(runs: Sequence[Run], names: Sequence[str]) -> Figure | None:
    lines = []
    for run, name, look in zip(runs, names, _looks(runs), strict=True):
        x, y = run.traffic()
        if len(x) < 2 and not math.isnan(run.accuracy):  # one exchange: one point
            x, y = [sum(run.bytes)], [run.accuracy]
        if x and x[0] > 0:
            lines.append(Series(name, x, y, joined=len(x) > 1, look=look, faint=look is None))
    if not lines:
        return None
    least = min(lines, key=lambda line: line.x[-1])
    most = max(lines, key=lambda line: line.y[-1])
    words = caption("runs_by_bytes", least, most, len(by_data(runs)) == 1, _note(runs, lines))
    return line_chart(words, lines, BYTES, ACCURACY)
