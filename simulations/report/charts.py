"""Charts: lines, and dots with intervals, each with the table of its numbers."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fedtransfer.common.support.text import size
from fedtransfer.simulations.report.blocks import Figure, Table, epsilon, number, percent, shown
from fedtransfer.simulations.report.chart_data import Axis, Dot, Ends, Level, Series
from fedtransfer.simulations.report.offsets import SAID, bars_apart, in_a_row, label_points
from fedtransfer.simulations.report.svg import DASHES, INK, MARKERS, MUTED, PAPER, SERIES, elements, sheet

TOLD = len(SERIES)  # series that a person can tell apart by colour, dashes and markers together
NAMED = 40  # rows or columns with names at them
_TABLED, _THINNED = 300, 26  # so many points are told, and so many of more
_FORMATS: dict[str, Callable[[float | None], str]] = {
    "percent": percent,
    "number": number,
    "bytes": lambda value: size(value or 0.0),
    "epsilon": lambda value: epsilon(math.nan if value is None else value),
}


def line_chart(
    title: str, description: str, series: Sequence[Series], x: Axis, y: Axis,
    levels: Sequence[Level] = (), diagonal: str = "", note: str = "",
) -> Figure:  # fmt: skip
    """Draw lines by colour, dashes and markers, levels as dotted lines, and faint series behind."""
    with sheet(5, 3.3) as (figure, axes):
        if diagonal:
            axes.plot([1e-6, 1e6], [1e-6, 1e6], color=MUTED, linewidth=1, linestyle=":", label=diagonal, zorder=1)
        for line in (line for line in series if line.faint):
            axes.plot(
                line.x, line.y, color=MUTED, linewidth=0.7, alpha=0.45, zorder=1, marker="" if len(line.x) > 1 else "."
            )
        told = [line for line in series if not line.faint]
        named = bars_apart(told, x.log)
        for i, (line, look) in enumerate(zip(named, _looks(named), strict=True)):
            dashes = look["linestyle"] if line.joined else "none"
            if not line.joined:  # points that fall together are seen as such: open, and the later ones smaller
                look |= {"markerfacecolor": "none", "markersize": 8 - 3 * i / len(named), "markeredgewidth": 1.5}
            look |= {"linestyle": dashes, "markevery": max(1, len(line.x) // 8) if line.joined else 1}
            axes.plot(line.x, line.y, zorder=3, label=shown(line.name, 40), **look)
            for x_, ends in zip(line.x, line.ends, strict=False):
                if ends:
                    axes.plot([x_, x_], ends, color=look["color"], linewidth=1.2, marker="_", markersize=6, zorder=2)
        for i, level in enumerate(levels):
            axes.axhline(
                level.y,
                color=MUTED,
                linewidth=1.1,
                linestyle=(0, ((6, 2), (3, 2), (1, 2), (6, 2, 1, 2))[i % 4]),
                label=shown(level.name, 40),
            )
        _dress(axes.xaxis, x)
        _dress(axes.yaxis, y)
        label_points(axes, named)
        axes.set(xlabel=x.label, ylabel=y.label)
        labels = axes.get_legend_handles_labels()
        if labels[1]:
            figure.legend(*labels, loc="outside lower left", ncols=2 if max(map(len, labels[1])) < 32 else 1)
        key, view, body = elements(figure, title)
    note = f"{note} {SAID * (named != told)}".strip()
    return Figure(
        key, "Line chart", title, description, view, body, _line_table(title, series, x, y, levels), note=note
    )


def _looks(series: Sequence[Series]) -> list[dict[str, Any]]:
    """Return colour, marker and dashes of each; series of one look have its colour, and differ in the others."""
    chosen, times = [], Counter[int]()
    for i, line in enumerate(series):
        look = i if line.look is None else line.look
        other = look + look // TOLD + times[look]
        times[look] += 1
        chosen.append(
            {
                "color": SERIES[look % TOLD],
                "marker": MARKERS[other % TOLD],
                "linestyle": DASHES[other % TOLD],
                "markersize": 4,
            }
        )
    return chosen


def _dress(axis: Any, told: Axis) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    limits = axis.axes.set_xlim if axis.axis_name == "x" else axis.axes.set_ylim
    scale = axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale
    if told.log:
        scale("log")
        axis.set_minor_locator(NullLocator())
    elif told.whole:
        axis.set_major_locator(MaxNLocator(6, integer=True))
    if told.low is not None or told.high is not None:
        limits(told.low, told.high)
    if told.kind == "percent":
        if not told.log:
            low, high = axis.get_view_interval()
            limits(max(low, -0.02), min(high, 1.02))  # an interval may reach further
            axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.6g} %"))
    elif told.kind == "bytes":
        axis.set_major_formatter(FuncFormatter(lambda value, _: size(value)))
    elif told.log:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if told.log:
        _few_ticks(axis)


def _few_ticks(axis: Any) -> None:
    """On a logarithmic axis over little more than a decade, set ticks at 1, 2 and 5 of each; else at powers of ten."""
    from matplotlib.ticker import LogLocator

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if low > 0 and high / low < 150 else (1.0,)))


def _line_table(title: str, series: Sequence[Series], x: Axis, y: Axis, levels: Sequence[Level]) -> Table:
    show_x, show_y = (_FORMATS.get(axis.kind, number) for axis in (x, y))
    told_x = f"{x.label}" if x.label else "x"
    notes = _levels(levels, show_y)
    if not any(line.joined for line in series):  # points: a row each
        points = [
            (shown(", ".join([line.name, *filter(None, line.labels[i : i + 1])]), 60), show_x(line.x[i]), _told(line, i, show_y))
            for line in series for i in range(len(line.x))
        ]  # fmt: skip
        return Table(title, ("", told_x, y.label), tuple(points), " ".join(notes)).shortened(_TABLED)
    named = [line for line in series if not line.faint]
    at = sorted({value for line in named for value in line.x})
    kept = at if len(at) <= _TABLED else [at[round(i)] for i in np.linspace(0, len(at) - 1, _THINNED)]
    values = [{value: _told(line, i, show_y) for i, value in enumerate(line.x)} for line in named]
    rows = tuple(
        (f"{value:g}" if x.whole else show_x(value), *(mine.get(value, "") for mine in values)) for value in kept
    )
    if len(kept) < len(at):
        notes = [f"{len(kept)} of {len(at):,} points.", *notes]
    columns = (told_x, *(shown(line.name, 40) for line in named))
    return Table(title, columns, rows, " ".join(notes))


def _told(line: Series, i: int, show: Callable[[float | None], str]) -> str:
    return _with_ends(line.y[i], line.ends[i] if line.ends else None, show)


def _with_ends(value: float, ends: Ends, show: Callable[[float | None], str]) -> str:
    return show(value) + (f" ({show(ends[0])} to {show(ends[1])})" if ends else "")


def _levels(levels: Sequence[Level], show: Callable[[float | None], str]) -> list[str]:
    return [f"{level.name[0].upper()}{level.name[1:]}: {show(level.y)}." for level in levels]


def dot_chart(
    title: str, description: str, dots: Sequence[Dot], columns: Sequence[str], axis: Axis,
    levels: Sequence[Level] = (), first: str = "", where: str = "",
) -> Figure:  # fmt: skip
    """Draw a row a name, with a marker a column; beyond ``NAMED`` rows they stand close, without names."""
    named = len(dots) <= NAMED
    height = 1.2 + (0.26 if named else 0.0) * len(dots) + (0 if named else 4.2)
    with sheet(5, height) as (figure, axes):
        y = np.arange(len(dots))
        known = [value for dot in dots for value in dot.values if not math.isnan(value)]
        length = max(known) - min(known) if named and known else 0.0
        moved = np.array([in_a_row(dot.values, length) if named else [0.0] * len(columns) for dot in dots])
        looks = [dot.look for dot in dots]
        coloured = any(look is not None for look in looks)
        for i, column in enumerate(columns):
            x = np.array([dot.values[i] for dot in dots], float)
            usual = MUTED if coloured else SERIES[i % TOLD]
            colours = [SERIES[look % TOLD] if look is not None and i == 0 else usual for look in looks]
            look = {"color": usual, "marker": MARKERS[i % TOLD], "markersize": 5.5 if named else 2.5}
            axes.plot(
                x,
                y + moved[:, i],
                linestyle="none",
                label=column,
                zorder=3 + i,
                markerfacecolor=usual if i == 0 else PAPER,
                **look,
            )
            for row, (dot, colour) in enumerate(zip(dots, colours, strict=True)):
                at = row + moved[row, i]
                if colour != usual:
                    axes.plot(x[row], at, zorder=3 + i, **(look | {"color": colour}))
                if dot.intervals and (ends := dot.intervals[i]):
                    axes.plot(ends, [at, at], color=colour, linewidth=1.2, zorder=2)
        for i, level in enumerate(levels):
            axes.axvline(
                level.y,
                color=MUTED,
                linewidth=1.1,
                linestyle=(0, ((6, 2), (3, 2), (1, 2), (6, 2, 1, 2))[i % 4]),
                label=level.name,
            )
        axes.set_ylim(len(dots) - 0.4, -0.6)
        axes.set_yticks(y if named else [], [shown(dot.name, 36) for dot in dots] if named else [])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(visible=named and len(columns) > 0, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(axis.label)
        axes.set_ylabel("" if named else first)
        _dress(axes.xaxis, axis)
        if len(labels := axes.get_legend_handles_labels()[1]) > 1:
            figure.legend(loc="outside lower left", ncols=2 if max(map(len, labels)) < 32 else 1)
        key, view, body = elements(figure, title)
    show = _FORMATS.get(axis.kind, number)
    rows = tuple((shown(dot.name), *(_of_dot(dot, i, show) for i in range(len(columns)))) for dot in dots)
    table = Table(title, (first, *columns), rows, " ".join(_levels(levels, show))).shortened(where=where)
    return Figure(key, "Dot chart", title, description, view, body, table, note=SAID if moved.any() else "")


def _of_dot(dot: Dot, i: int, show: Callable[[float | None], str]) -> str:
    return _with_ends(dot.values[i], dot.intervals[i] if dot.intervals else None, show)


def distinct(series: Sequence[Series], rank: Callable[[Series], float], most: int = TOLD) -> tuple[list[Series], str]:
    """Keep as many series in colour as can be told apart, those that rank highest; the others become faint.

    Returns:
        The series, faint ones first, and a note that says so, "" where all are told apart.
    """
    if len(series) <= most:
        return list(series), ""
    best = sorted(series, key=rank, reverse=True)[: most - 1]
    rest = [replace(line, faint=True) for line in series if line not in best]
    return [*rest, *best], f"In colour the {len(best)} best; the other {len(rest)} are thin grey lines."
