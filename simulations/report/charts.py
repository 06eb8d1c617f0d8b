"""Charts: lines, dots with intervals, and matrices as bubbles or shades, each with the table of its numbers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.words import size
from simulations.report.blocks import Figure, Table, number, percent, shown
from simulations.report.svg import ACCENT, DASHES, INK, MARKERS, MUTED, PAPER, SERIES, SHADE, elements, sheet

TOLD = len(SERIES)  # series that a person can tell apart by colour, dashes and markers together
NAMED = 40  # rows or columns with names at them
_BUBBLES, _NUMBERED, _TABLED = 400, 150, 26
_FORMATS: dict[str, Callable[[float | None], str]] = {
    "percent": percent,
    "number": number,
    "bytes": lambda value: size(value or 0.0),
}


@dataclass(frozen=True)
class Series:
    """A line: its name, and points from left to right.

    Attributes:
        half: half the width of each point's interval, where there is one.
        joined: whether the points are joined by a line.
        faint: drawn thin and grey, without a name: one of many.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    half: Sequence[float] = ()
    joined: bool = True
    faint: bool = False


@dataclass(frozen=True)
class Level:
    """A horizontal line with its name."""

    name: str
    y: float


@dataclass(frozen=True)
class Axis:
    """What an axis shows: label, scale and kind of number (``percent``, ``number``, ``bytes``)."""

    label: str
    log: bool = False
    kind: str = "number"
    whole: bool = False
    low: float | None = None
    high: float | None = None


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
        for i, line in enumerate(line for line in series if not line.faint):
            look = {
                "color": SERIES[i % TOLD],
                "marker": MARKERS[i % TOLD],
                "markersize": 4,
                "zorder": 3,
                "label": shown(line.name, 40),
            }
            look |= {"linestyle": DASHES[i % TOLD] if line.joined else "none", "markevery": max(1, len(line.x) // 8)}
            axes.plot(line.x, line.y, **look)
            if len(line.half) and not all(math.isnan(half) for half in line.half):
                axes.errorbar(line.x, line.y, line.half, fmt="none", ecolor=SERIES[i % TOLD], elinewidth=1.2, capsize=3)
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
        axes.set(xlabel=x.label, ylabel=y.label)
        labels = axes.get_legend_handles_labels()
        if labels[1]:
            figure.legend(*labels, loc="outside lower left", ncols=2 if max(map(len, labels[1])) < 32 else 1)
        key, view, body = elements(figure, title)
    return Figure(
        key, "Line chart", title, description, view, body, _line_table(title, series, x, y, levels), note=note
    )


def _dress(axis: Any, told: Axis) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

    limits = axis.axes.set_xlim if axis.axis_name == "x" else axis.axes.set_ylim
    scale = axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale
    if told.log:
        scale("log")
        axis.set_minor_locator(NullLocator())
    elif told.whole:
        axis.set_major_locator(MaxNLocator(6, integer=True))
    if told.low is not None or told.high is not None:
        limits(told.low, told.high)
    if told.kind == "percent" and told.log:
        axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    elif told.kind == "percent":
        low, high = axis.get_view_interval()
        limits(max(low, -0.02), min(high, 1.02))  # an interval may reach further
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
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
    named = [line for line in series if not line.faint]
    at = sorted({value for line in named for value in line.x})
    kept = at if len(at) <= _TABLED else [at[round(i)] for i in np.linspace(0, len(at) - 1, _TABLED)]
    values = [dict(zip(line.x, line.y, strict=True)) for line in named]
    told_x = f"{x.label}" if x.label else "x"
    show_x, show_y = (_FORMATS.get(axis.kind, number) for axis in (x, y))
    rows = tuple(
        (f"{value:g}" if x.whole else show_x(value), *(show_y(mine[value]) if value in mine else "" for mine in values))
        for value in kept
    )
    notes = [f"{len(kept)} of {len(at):,} points."] if len(kept) < len(at) else []
    notes += _levels(levels, show_y)
    columns = (told_x, *(shown(line.name, 40) for line in named))
    return Table(title, columns, rows, " ".join(notes))


def _levels(levels: Sequence[Level], show: Callable[[float | None], str]) -> list[str]:
    return [f"{level.name[0].upper()}{level.name[1:]}: {show(level.y)}." for level in levels]


@dataclass(frozen=True)
class Dot:
    """A row of a dot chart: its name, and a value for each column, NaN where there is none, with intervals."""

    name: str
    values: tuple[float, ...]
    intervals: tuple[tuple[float, float] | None, ...] = ()


def dot_chart(
    title: str, description: str, dots: Sequence[Dot], columns: Sequence[str], axis: Axis,
    levels: Sequence[Level] = (), first: str = "", where: str = "",
) -> Figure:  # fmt: skip
    """Draw a row a name, with a marker a column; beyond ``NAMED`` rows they stand close, without names."""
    named = len(dots) <= NAMED
    height = 1.2 + (0.26 if named else 0.0) * len(dots) + (0 if named else 4.2)
    with sheet(5, height) as (figure, axes):
        y = np.arange(len(dots))
        for i, column in enumerate(columns):
            x = np.array([dot.values[i] for dot in dots], float)
            # The last column stands in front: where two fall together, an open marker shows that there are two.
            look = {"color": SERIES[i % TOLD], "marker": MARKERS[i % TOLD], "markersize": 5.5 if named else 2.5}
            axes.plot(
                x,
                y,
                linestyle="none",
                label=column,
                zorder=3 + i,
                markerfacecolor=SERIES[i % TOLD] if i == 0 else PAPER,
                **look,
            )
            for row, dot in enumerate(dots):
                if dot.intervals and (ends := dot.intervals[i]):
                    axes.plot(ends, [row, row], color=SERIES[i % TOLD], linewidth=1.2, zorder=2)
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
    rows = tuple((shown(dot.name), *(_with_interval(dot, i, show) for i in range(len(columns)))) for dot in dots)
    table = Table(title, (first, *columns), rows, " ".join(_levels(levels, show))).shortened(where=where)
    return Figure(key, "Dot chart", title, description, view, body, table)


def _with_interval(dot: Dot, i: int, show: Callable[[float | None], str]) -> str:
    ends = dot.intervals[i] if dot.intervals else None
    return show(dot.values[i]) + (f" ({show(ends[0])} to {show(ends[1])})" if ends else "")


def matrix_chart(
    title: str, description: str, counts: NDArray[Any], rows: Sequence[str], columns: Sequence[str],
    labels: tuple[str, str], table: Table, *, by_count: bool = False,
) -> Figure:  # fmt: skip
    """Draw a matrix of counts: bubbles whose area is the count, or shades by the share of the row or the count.

    Args:
        counts: (rows, columns).
        labels: what the columns and what the rows are.
        table: the numbers, or the most telling of them.
        by_count: show counts, as bubbles if there are few enough, not shares of rows.
    """
    r, c = counts.shape
    bubbles = by_count and counts.size <= _BUBBLES
    wide = max(r, c) > 14
    width = 7.6 if wide else 5.0
    cell = min(0.42 if wide else 0.34, (width - 1.4) / c, 5.5 / r)
    with sheet(width, 1.1 + max(cell, 0.02) * r + 0.055 * _longest(columns) * (c > 6)) as (figure, axes):
        if bubbles:
            where = np.argwhere(counts)
            sizes = counts[counts > 0] / max(counts.max(), 1) * (cell * 72 * 0.95) ** 2
            axes.scatter(where[:, 1], where[:, 0], s=sizes, color=ACCENT, alpha=0.75, linewidths=0)
        else:
            share = counts if by_count else counts / np.maximum(counts.sum(1, keepdims=True), 1)
            depth = 0.65 * (share / max(share.max(), 1e-12)) ** 0.7  # so that small shares are seen among many classes
            shade = np.concatenate([np.broadcast_to(SHADE, (r, c, 3)), depth[..., None]], axis=2)
            axes.imshow(shade, aspect="auto", interpolation="none")
            if counts.size <= _NUMBERED:
                for (i, j), count in np.ndenumerate(counts):
                    if count:
                        axes.text(
                            j, i, f"{count:,}", ha="center", va="center", fontsize=6.5 if c > 8 else 7.5, color=INK
                        )
        axes.set(xlim=(-0.5, c - 0.5), ylim=(r - 0.5, -0.5), xlabel=labels[0], ylabel=labels[1])
        axes.grid(visible=bubbles)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xticks(range(c) if c <= NAMED else [], [shown(name, 16) for name in columns] if c <= NAMED else [])
        axes.set_yticks(range(r) if r <= NAMED else [], [shown(name, 16) for name in rows] if r <= NAMED else [])
        if c > 6 or _longest(columns) > 8:
            axes.tick_params(axis="x", rotation=90 if c > 20 else 45)
            for label in axes.get_xticklabels():
                label.set(ha="center" if c > 20 else "right", rotation_mode="default" if c > 20 else "anchor")
        key, view, body = elements(figure, title)
    return Figure(key, "Matrix", title, description, view, body, table, wide=wide)


def _longest(names: Sequence[str]) -> int:
    return min(16, max(map(len, names), default=0)) if len(names) <= NAMED else 0


def distinct(series: Sequence[Series], rank: Callable[[Series], float]) -> tuple[list[Series], str]:
    """Keep as many series in colour as can be told apart, those that rank highest; the others become faint.

    Returns:
        The series, faint ones first, and a note that says so, "" where all are told apart.
    """
    if len(series) <= TOLD:
        return list(series), ""
    best = sorted(series, key=rank, reverse=True)[: TOLD - 1]
    rest = [Series(line.name, line.x, line.y, faint=True) for line in series if line not in best]
    return [*rest, *best], f"In colour the {len(best)} best; the other {len(rest)} are thin grey lines."
