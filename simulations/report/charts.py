"""Charts: lines, and dots with intervals, each with the table of its numbers."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.support.text import size
from fedtransfer.simulations.report.blocks import Caption, Figure, Table
from fedtransfer.simulations.report.chart_data import Axis, Dot, Ends, Levels, Series, bars_apart, in_a_row
from fedtransfer.simulations.report.sentences import sentence
from fedtransfer.simulations.report.svg import DASHES, INK, MARKERS, MUTED, PAPER, SERIES, elements, sheet
from fedtransfer.simulations.report.texts import epsilon, number, percent, printable

DISTINCT = len(SERIES)  # series that a person can tell apart by colour, dashes and markers together
SIDE_BY_SIDE = "Points that would cover each other stand side by side."
NAMED = 40  # rows or columns with names at them
_TABLED, _THINNED = 300, 26  # most points in a table, and how many are left of more
_TICKS: dict[str, Any] = {"percent": lambda share: f"{100 * share:.6g} %", "bytes": size}
_FORMATS: dict[str, Any] = {"percent": percent, "number": number, "bytes": size, "epsilon": epsilon}


def line_chart(
    caption: Caption, series: Sequence[Series], x: Axis, y: Axis, levels: Levels = (), diagonal: str = ""
) -> Figure:
    """Draw lines by colour, dashes and markers, levels as dotted lines, and faint series behind.

    Bars that would cover each other are side by side. ``diagonal`` names a line of x = y, if any.
    """
    with sheet(5, 3.3) as (figure, axes):
        if diagonal:
            ends = [1e-6, 1e6]
            axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=":", label=diagonal, zorder=1)
        for line in (line for line in series if line.faint):
            marker = "" if len(line.x) > 1 else "."
            axes.plot(line.x, line.y, color=MUTED, linewidth=0.7, alpha=0.45, zorder=1, marker=marker)
        in_colour = [line for line in series if not line.faint]
        named = bars_apart(in_colour, x.log)
        _draw_lines(axes, named)
        _draw_levels(axes.axhline, levels)
        _dress(axes.xaxis, x)
        _dress(axes.yaxis, y)
        _label_points(axes, named)
        _add_legend(figure, axes, least=1)
        key, view, body = elements(figure, caption.title)
    caption = caption.noted(SIDE_BY_SIDE * (named != in_colour))
    return Figure(key, "Line chart", caption, view, body, _line_table(caption.title, series, x, y, levels))


def _draw_lines(axes: Any, series: Sequence[Series]) -> None:
    """Draw lines in their colours; those of one colour differ in markers and dashes."""
    times = Counter[int]()
    for i, line in enumerate(series):
        number = i if line.look is None else line.look
        other = (number + number // DISTINCT + times[number]) % DISTINCT
        times[number] += 1
        colour, every = SERIES[number % DISTINCT], max(1, len(line.x) // 8)
        look: dict[str, Any] = {"linestyle": DASHES[other], "markersize": 4, "markevery": every}
        if not line.joined:  # coinciding points are open, and later ones smaller, so that all can be seen
            look = {"linestyle": "none", "markersize": 8 - 3 * i / len(series)}
            look |= {"markerfacecolor": "none", "markeredgewidth": 1.5}
        name = printable(line.name, 40)
        axes.plot(line.x, line.y, zorder=3, label=name, color=colour, marker=MARKERS[other], **look)
        for at, ends in zip(line.x, line.ends, strict=False):
            if ends:
                axes.plot([at, at], ends, color=colour, linewidth=1.2, marker="_", markersize=6, zorder=2)


def _label_points(axes: Any, series: Sequence[Series]) -> None:
    """Write the labels of points, but none over another label or a point; the table has all."""

    def on_page(at: Sequence[float]) -> Any:
        return axes.transData.transform(at) * 72 / axes.figure.dpi  # in points

    labels, points = list[Any](), [on_page(at) for line in series for at in zip(line.x, line.y, strict=True)]
    style: dict[str, Any] = {"fontsize": 7, "color": MUTED, "annotation_clip": False}
    for *at, text in (point for line in series for point in zip(line.x, line.y, line.labels, strict=False)):
        place = on_page(at)
        covered = any(0 < right < 30 and abs(up) < 6 for right, up in (point - place for point in points))
        if text and not covered and not any((abs(place - other) < (40, 7)).all() for other in labels):
            labels.append(place)
            axes.annotate(text, at, (6, -3), textcoords="offset points", **style)


def _draw_levels(draw: Callable[..., Any], levels: Levels) -> None:
    for i, (name, value) in enumerate(levels):
        dashes = ((6, 2), (3, 2), (1, 2), (6, 2, 1, 2))[i % 4]
        draw(value, color=MUTED, linewidth=1.1, linestyle=(0, dashes), label=printable(name, 40))


def _add_legend(figure: Any, axes: Any, least: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) >= least:
        figure.legend(handles, labels, loc="outside lower left", ncols=2 if max(map(len, labels)) < 32 else 1)


def _dress(axis: Any, shape: Axis) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    limits = axis.axes.set_xlim if axis.axis_name == "x" else axis.axes.set_ylim
    axis.set_label_text(shape.label)
    if shape.log:
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        axis.set_minor_locator(NullLocator())
    elif shape.whole:
        axis.set_major_locator(MaxNLocator(6, integer=True))
    if shape.low is not None or shape.high is not None:
        limits(shape.low, shape.high)
    low, high = axis.get_view_interval()
    if shape.kind == "percent" and not shape.log:
        limits(max(low, -0.02), min(high, 1.02))  # an interval may reach further
        axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10]))
    if shape.kind in _TICKS or shape.log:
        show = _TICKS.get(shape.kind, "{:g}".format)
        axis.set_major_formatter(lambda value, _: show(value))
    if shape.log:  # ticks at 1, 2 and 5 of each decade if there are few decades, else at powers of ten
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if low > 0 and high / low < 150 else (1.0,)))


def _line_table(title: str, series: Sequence[Series], x: Axis, y: Axis, levels: Levels) -> Table:
    rows: list[tuple[str, ...]] = []
    show_x, note = "{:g}".format if x.whole else _FORMATS[x.kind], _of_levels(levels, y)
    if not any(line.joined for line in series):  # points: a row each
        for line in series:
            labels = [f", {label}" if label else "" for label in line.labels] or [""] * len(line.x)
            names = (printable(line.name + label, 60) for label in labels)
            rows += zip(names, map(show_x, line.x), _cells(line.y, line.ends, y), strict=True)
        return Table(title, ("", x.label, y.label), tuple(rows), note).shortened(_TABLED)
    named = [line for line in series if not line.faint]
    columns = [dict(zip(line.x, _cells(line.y, line.ends, y), strict=True)) for line in named]
    at = sorted({value for column in columns for value in column})
    if len(at) > _TABLED:
        note = f"{_THINNED} of {len(at):,} points. {note}".strip()
        at = [at[round(i)] for i in np.linspace(0, len(at) - 1, _THINNED)]
    rows += [(show_x(value), *(column.get(value, "") for column in columns)) for value in at]
    return Table(title, (x.label, *(printable(line.name, 40) for line in named)), tuple(rows), note)


def _cells(values: Sequence[float], ends: Sequence[Ends], axis: Axis) -> list[str]:
    """Return values as texts, with intervals where there are any."""
    show = _FORMATS[axis.kind]
    intervals = [" ({} to {})".format(*map(show, pair)) if pair else "" for pair in ends]
    return [show(value) + end for value, end in zip(values, intervals or [""] * len(values), strict=True)]


def _of_levels(levels: Levels, axis: Axis) -> str:
    return " ".join(f"{name[0].upper()}{name[1:]}: {_FORMATS[axis.kind](value)}." for name, value in levels)


def dot_chart(
    caption: Caption, dots: Sequence[Dot], columns: list[str], axis: Axis, levels: Levels = (), file: str = ""
) -> Figure:
    """Draw a row a dot, with a marker a value; more than ``NAMED`` rows are dense, without names.

    ``columns`` say what the rows are, and what each of their values is. ``file`` has all numbers
    if there are too many for the table. Levels are vertical.
    """
    kind, *values = columns
    named = len(dots) <= NAMED
    height = 1.2 + (0.26 if named else 0.0) * len(dots) + (0 if named else 4.2)
    with sheet(5, height) as (figure, axes):
        finite = [value for dot in dots for value in dot.values if not math.isnan(value)]
        length = max(finite) - min(finite) if named and finite else 0.0
        moved = np.array([in_a_row(dot.values, length) if named else [0.0] * len(values) for dot in dots])
        _draw_dots(axes, dots, values, moved, 5.5 if named else 2.5)
        _draw_levels(axes.axvline, levels)
        axes.set_ylim(len(dots) - 0.4, -0.6)
        names = [printable(dot.name, 36) for dot in dots] if named else []
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(visible=named and len(values) > 0, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_ylabel("" if named else kind)
        _dress(axes.xaxis, axis)
        _add_legend(figure, axes, least=2)
        key, view, body = elements(figure, caption.title)
    rows = tuple((printable(dot.name), *_cells(dot.values, dot.intervals, axis)) for dot in dots)
    table = Table(caption.title, tuple(columns), rows, _of_levels(levels, axis)).shortened(where=file)
    return Figure(key, "Dot chart", caption.noted(SIDE_BY_SIDE * bool(moved.any())), view, body, table)


def _draw_dots(axes: Any, dots: Sequence[Dot], values: list[str], moved: NDArray[Any], size: float) -> None:
    """Draw a marker per value: the first in the dot's colour, the others then in grey."""
    coloured = any(dot.look is not None for dot in dots)
    y = np.arange(len(dots))
    for i, name in enumerate(values):
        x = np.array([dot.values[i] for dot in dots], float)
        usual = MUTED if coloured else SERIES[i % DISTINCT]
        colours = [SERIES[dot.look % DISTINCT] if dot.look is not None and i == 0 else usual for dot in dots]
        marker, face = MARKERS[i % DISTINCT], usual if i == 0 else PAPER
        look: dict[str, Any] = {"color": usual, "marker": marker, "markersize": size, "zorder": 3 + i}
        axes.plot(x, y + moved[:, i], linestyle="none", label=name, markerfacecolor=face, **look)
        for row, (dot, colour) in enumerate(zip(dots, colours, strict=True)):
            at = row + moved[row, i]
            if colour != usual:
                axes.plot(x[row], at, **(look | {"color": colour}))
            if dot.intervals and (ends := dot.intervals[i]):
                axes.plot(ends, [at, at], color=colour, linewidth=1.2, zorder=2)


def distinct(series: Sequence[Series], rank: Callable[[Series], Any], most: int) -> tuple[list[Series], str]:
    """Return series, of many those of the lowest rank first and faint, and a note about these."""
    if len(series) <= most:
        return list(series), ""
    best = sorted(series, key=rank, reverse=True)[: most - 1]
    rest = [replace(line, faint=True) for line in series if line not in best]
    return [*rest, *best], sentence("figures", "faint_lines", True, len(best), len(rest))
