"""The figures that compare several runs; a run has one colour in all of them."""

import math
from collections.abc import Sequence

from fedtransfer.common.support.text import counted, size
from fedtransfer.simulations.report.blocks import Figure, Section, epsilon, percent, power, shown
from fedtransfer.simulations.report.chart_data import Axis, Dot, Level, Series
from fedtransfer.simulations.report.charts import TOLD, dot_chart, line_chart
from fedtransfer.simulations.report.comparison_words import by_data
from fedtransfer.simulations.report.reading import Run
from fedtransfer.simulations.report.runs import ACCURACY, BYTES, ROUNDS

_BY_SITE = 6  # at most so many runs stand beside each other at a site


def figures(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Return a section a figure, of those that there is something to draw in."""
    drawn = {
        ("accuracy", "Accuracy by round"): _by_round(runs, names),
        ("sites", "Accuracy by site"): _by_site(runs, names),
        ("epsilon", "Accuracy against ε"): _by_epsilon(runs, names),
        ("bytes", "Accuracy against bytes"): _by_bytes(runs, names),
    }
    return [Section(key, title, figures=(figure,)) for (key, title), figure in drawn.items() if figure]


def _looks(runs: Sequence[Run]) -> list[int | None]:
    """Return each run's look in all figures: of many runs the most accurate alone have one, the others are faint."""
    if len(runs) <= TOLD:
        return list(range(len(runs)))
    ranked = sorted(range(len(runs)), key=lambda i: -1.0 if math.isnan(runs[i].accuracy) else runs[i].accuracy)
    chosen = {run: look for look, run in enumerate(ranked[:-TOLD:-1])}
    return [chosen.get(i) for i in range(len(runs))]


def _note(runs: Sequence[Run], lines: Sequence[Series]) -> str:
    faint = sum(line.faint for line in lines)
    notes = ["The runs are on different data: their accuracies do not compare."] if len(by_data(runs)) > 1 else []
    notes += [f"In colour the {TOLD - 1} best; the other {faint} are thin grey lines."] if faint else []
    return " ".join(notes)


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
    last = sorted(lines, key=lambda line: line.y[-1])
    description = f"{counted(len(lines), 'run')} with rounds of training"
    if len(lines) > 1 and len(by_data(runs)) == 1:
        description += (
            f": after its last round the highest is {shown(last[-1].name, 40)} with {percent(last[-1].y[-1])}, the lowest "
            f"{shown(last[0].name, 40)} with {percent(last[0].y[-1])} of the test images"
        )
    return line_chart(
        "Accuracy by round", f"{description}.", lines, ROUNDS, ACCURACY, once if len(once) <= 4 else (),
        note=_note(runs, lines),
    )  # fmt: skip


def _by_site(runs: Sequence[Run], names: Sequence[str]) -> Figure | None:
    accuracy = [run.measured.get("site_accuracy") or {} for run in runs]
    if len(runs) > _BY_SITE or not accuracy[0] or any(set(mine) != set(accuracy[0]) for mine in accuracy):
        return None
    if len(by_data(runs)) > 1:  # sites of one name, and nothing else in common
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
    description = (
        f"A point a run. At ε = {epsilon(low.epsilon)} accuracy is {percent(low.accuracy)}, at ε = {epsilon(high.epsilon)} "
        f"it is {percent(high.accuracy)}."
    )
    deltas = {run.config.delta for run in private}
    label = f"ε at δ = {power(deltas.pop())}" if len(deltas) == 1 else "ε, each at its run's δ"
    bare = [run.accuracy for run in runs if run.privacy is None and not math.isnan(run.accuracy)]
    best = [Level("the best without a promise", max(bare))] if bare and len(by_data(runs)) == 1 else []
    axis = Axis(label, log=True, kind="epsilon")
    note = _note(runs, lines).replace("thin grey lines", "small grey points")
    return line_chart("Accuracy against ε", description, lines, axis, ACCURACY, best, note=note)


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
    description = (
        f"Least bytes: {shown(least.name, 40)} with {size(least.x[-1])} to and from a site and {percent(least.y[-1])}."
    )
    if len(by_data(runs)) == 1:
        description += (
            f" Highest accuracy in the end: {shown(most.name, 40)} with {size(most.x[-1])} and {percent(most.y[-1])}."
        )
    return line_chart(
        "Accuracy against bytes to and from a site", description, lines, BYTES, ACCURACY, note=_note(runs, lines)
    )
