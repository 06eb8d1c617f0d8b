"""What a chart draws: series, levels, rows of dots and axes."""

from collections.abc import Sequence
from dataclasses import dataclass

Ends = tuple[float, float] | None


@dataclass(frozen=True)
class Series:
    """A line: its name, and points from left to right.

    Attributes:
        ends: of each point's interval, where there is one.
        joined: whether the points are joined by a line.
        faint: drawn thin and grey, without a name: one of many.
        look: number of its colour, marker and dashes, where it has the same ones in other figures; else its place.
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
class Level:
    """A horizontal line with its name."""

    name: str
    y: float


@dataclass(frozen=True)
class Axis:
    """What an axis shows: label, scale and kind of number (``percent``, ``number``, ``bytes``, ``epsilon``)."""

    label: str
    log: bool = False
    kind: str = "number"
    whole: bool = False
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Dot:
    """A row of a dot chart: its name, and a value for each column, NaN if it is missing, with intervals.

    Attributes:
        look: number of the colour that its first value has in other figures too; then others are grey.
    """

    name: str
    values: tuple[float, ...]
    intervals: tuple[Ends, ...] = ()
    look: int | None = None
