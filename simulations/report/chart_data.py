"""What a chart draws: series, levels, rows of dots and axes; and how points are set apart."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

_NEAR = 0.02  # of the axis: points that are closer cover each other
_STEP, _MOST = 0.018, 0.05  # of the axis, from bar to bar and of all together
Ends = tuple[float, float] | None
Levels = Sequence[tuple[str, float]]  # straight lines: names and values
_Key = TypeVar("_Key", int, tuple[int, int])


@dataclass(frozen=True)
class Series:
    """A line: its name, and points from left to right.

    Attributes:
        ends: of each point's interval, where there is one.
        joined: whether the points are joined by a line.
        faint: drawn thin and grey, without a name: one of many.
        look: number of its colour, marker and dashes if other figures share them; else its place.
        labels: a text next to each point.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    ends: Sequence[Ends] = ()
    joined: bool = True
    faint: bool = False
    look: int | None = None
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Axis:
    """Label, scale and kind of number of an axis: percent, number, bytes or epsilon."""

    label: str
    log: bool = False
    kind: str = "number"
    whole: bool = False
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Dot:
    """A row of a dot chart: its name, and a value for each column, NaN if missing, with intervals.

    Attributes:
        look: number of its first value's colour, if other figures share it; then others are grey.
    """

    name: str
    values: tuple[float, ...]
    intervals: tuple[Ends, ...] = ()
    look: int | None = None


def in_a_row(values: Sequence[float], length: float) -> list[float]:
    """Return how far each point is moved across its row, in rows: 0 where it stands free.

    ``values`` are along an axis of a ``length``, NaN if they are missing.
    """
    shifts = [0.0] * len(values)
    near = {i: (at, at + _NEAR * length) for i, at in enumerate(values) if not math.isnan(at)}
    for group in _overlapping(near):
        step = min(0.3, 0.7 / len(group))
        for position, i in enumerate(group):
            shifts[i] = (position - (len(group) - 1) / 2) * step
    return shifts


def bars_apart(series: Sequence[Series], log: bool) -> list[Series]:
    """Return series whose bars stand side by side where they would lie on one another.

    Points with ``ends`` have a bar. Steps are shares of the axis, which may be logarithmic.
    """
    bars = {(s, i): ends for s, line in enumerate(series) for i, ends in enumerate(line.ends) if ends}
    places = {(s, i): math.log10(series[s].x[i]) if log else float(series[s].x[i]) for s, i in bars}
    length = (max(places.values()) - min(places.values())) or 1.0 if places else 1.0
    xs = [list(line.x) for line in series]
    for group in _overlapping({bar: (at, at + _NEAR * length) for bar, at in places.items()}):
        for touching in _overlapping({bar: bars[bar] for bar in group}):
            step = min(_STEP, _MOST / (len(touching) - 1)) * length
            for position, (s, i) in enumerate(touching):
                at = places[s, i] + (position - (len(touching) - 1) / 2) * step
                xs[s][i] = 10**at if log else at
    return [line if x == [*line.x] else replace(line, x=x) for line, x in zip(series, xs, strict=True)]


def _overlapping(ranges: Mapping[_Key, tuple[float, float]]) -> list[list[_Key]]:
    """Return the keys of ranges that overlap, one or over others."""
    groups, end = list[list[_Key]](), -math.inf
    for key in sorted(ranges, key=lambda key: ranges[key]):
        low, high = ranges[key]
        if low <= end:
            groups[-1].append(key)
        else:
            groups.append([key])
        end = max(end, high)
    return [sorted(group) for group in groups if len(group) > 1]
