"""Deterministic offsets of coincident points, and the placement of labels. Tables have the exact values."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fedtransfer.simulations.report.chart_data import Series
from fedtransfer.simulations.report.svg import MUTED

_NEAR = 0.02  # of the axis: points that are closer cover each other
_STEP, _MOST = 0.018, 0.05  # of the axis, from bar to bar and of all together
SIDE_BY_SIDE = "Points that would cover each other stand side by side."


def _groups(coordinates: Sequence[float], near: float) -> list[list[int]]:
    """Return the numbers of places that are no further apart than ``near`` from one to the next; NaN is in none."""
    order = sorted(
        (i for i, coordinate in enumerate(coordinates) if not math.isnan(coordinate)), key=lambda i: coordinates[i]
    )
    groups: list[list[int]] = []
    for i in order:
        if groups and coordinates[i] - coordinates[groups[-1][-1]] <= near:
            groups[-1].append(i)
        else:
            groups.append([i])
    return [sorted(group) for group in groups if len(group) > 1]


def in_a_row(values: Sequence[float], length: float) -> list[float]:
    """Return how far each of a row's points is moved across the row, in rows: 0 where it stands free.

    Args:
        values: along the axis, NaN if it is missing.
        length: of the axis.
    """
    shifts = [0.0] * len(values)
    for group in _groups(values, _NEAR * length):
        step = min(0.3, 0.7 / len(group))
        for position, i in enumerate(group):
            shifts[i] = (position - (len(group) - 1) / 2) * step
    return shifts


def bars_apart(series: "Sequence[Series]", log: bool) -> "list[Series]":
    """Return series whose bars stand side by side where they would lie on one another.

    Args:
        series: of which points with ``ends`` have a bar.
        log: whether the axis is logarithmic: steps are shares of the axis.
    """
    scale = math.log10 if log else float
    points = [(s, i, ends) for s, line in enumerate(series) for i, ends in enumerate(line.ends) if ends]
    coordinates = [scale(series[s].x[i]) for s, i, _ in points]
    length = (max(coordinates) - min(coordinates)) or 1.0 if coordinates else 1.0
    xs = [list(line.x) for line in series]
    for group in _groups(coordinates, _NEAR * length):
        for touching in _touching([points[n][2] for n in group]):
            step = min(_STEP, _MOST / (len(touching) - 1)) * length
            for position, n in enumerate(touching):
                s, i, _ = points[group[n]]
                at = coordinates[group[n]] + (position - (len(touching) - 1) / 2) * step
                xs[s][i] = 10**at if log else at
    return [line if x == [*line.x] else replace(line, x=x) for line, x in zip(series, xs, strict=True)]


def label_points(axes: Any, series: "Sequence[Series]") -> None:
    """Write the labels of points, except those that would cover another label or a point; the table has all."""

    def coordinate(at: Sequence[float]) -> Any:
        return axes.transData.transform(at) * 72 / axes.figure.dpi  # in points

    labels, points = list[Any](), [coordinate(at) for line in series for at in zip(line.x, line.y, strict=True)]
    for at, text in ((at, text) for line in series for *at, text in zip(line.x, line.y, line.labels, strict=False)):
        at_page = coordinate(at)
        covered = any(0 < right < 30 and abs(up) < 6 for right, up in (point - at_page for point in points))
        if text and not covered and not any((abs(at_page - other) < (40, 7)).all() for other in labels):
            labels.append(at_page)
            axes.annotate(text, at, (6, -3), textcoords="offset points", fontsize=7, color=MUTED, annotation_clip=False)


def _touching(bars: Sequence[tuple[float, float]]) -> list[list[int]]:
    """Return the numbers of bars that overlap, one or over others."""
    groups: list[tuple[list[int], float]] = []
    for i in sorted(range(len(bars)), key=lambda i: bars[i]):
        if groups and bars[i][0] <= groups[-1][1]:
            groups[-1] = [*groups[-1][0], i], max(groups[-1][1], bars[i][1])
        else:
            groups.append(([i], bars[i][1]))
    return [sorted(group) for group, _ in groups if len(group) > 1]
