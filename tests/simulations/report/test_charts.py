"""Marks are where their numbers are: levels of the same values are drawn through them."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from fedtransfer.simulations.report.blocks import Caption, Figure
from fedtransfer.simulations.report.chart_data import Axis, Dot, Series
from fedtransfer.simulations.report.charts import dot_chart, line_chart

VALUES = (0.31, 0.52, 0.87)
LEVELS = [(f"level {value:g}", value) for value in VALUES]


def drawing(figure: Figure) -> ElementTree.Element:
    return ElementTree.fromstring(f"<svg>{figure.body}</svg>")


def paths(figure: Figure, *style: str) -> list[np.ndarray]:
    """The points (n, 2) of each path whose style has these words."""
    found = [
        path for path in drawing(figure).iter("path") if all(word in path.get("style", "") for word in style)
    ]
    return [np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.get("d", "")), float) for path in found]


def levels(figure: Figure, axis: int) -> list[float]:
    """Where the levels are on the page, in order."""
    lines = paths(figure, "stroke-dasharray", "var(--muted)", "stroke-width: 1.1")
    straight = [line for line in lines if len(line) == 2 and np.ptp(line[:, axis]) == 0 and np.ptp(line) > 50]
    return sorted(line[0, axis] for line in straight)


def test_a_line_goes_through_its_values() -> None:
    series = Series("a", (1, 2, 4), (VALUES[0], VALUES[2], VALUES[1]))
    figure = line_chart(Caption("t", "d"), [series], Axis("round"), Axis("accuracy", kind="percent"), LEVELS)
    [line] = paths(figure, "var(--s1)", "stroke-width: 1.8")[:1]
    top, middle, bottom = levels(figure, 1)
    assert line[:, 1] == pytest.approx([bottom, top, middle], abs=0.01)
    x = line[:, 0]
    assert (x[2] - x[1]) / (x[1] - x[0]) == pytest.approx(2, abs=0.01)


def test_intervals_end_at_their_ends() -> None:
    ends = [(VALUES[0], VALUES[2])]
    figure = line_chart(
        Caption("t", "d"), [Series("a", (1,), (VALUES[1],), ends)], Axis("x"), Axis("y"), LEVELS
    )
    bars = [path for path in paths(figure, "var(--s1)", "stroke-width: 1.2") if len(path) == 2]
    assert any(bar[:, 1] == pytest.approx(np.array(levels(figure, 1))[[2, 0]], abs=0.01) for bar in bars)


def test_dots_are_at_their_values() -> None:
    dots = [Dot(f"row {i}", (value,), ((VALUES[0], VALUES[2]),)) for i, value in enumerate(VALUES)]
    figure = dot_chart(Caption("t", "d"), dots, ["row", "accuracy"], Axis("accuracy", kind="percent"), LEVELS)
    across = levels(figure, 0)
    marks = [
        (float(use.get("x", "")), float(use.get("y", "")))
        for use in drawing(figure).iter("use")
        if "var(--s1)" in use.get("style", "")
    ]
    rows = sorted(marks, key=lambda mark: mark[1])[: len(dots)]  # below them is the legend
    assert [x for x, _ in rows] == pytest.approx(across, abs=0.01), "from the first row to the last"
    bars = [path for path in paths(figure, "var(--s1)", "stroke-width: 1.2") if len(path) == 2]
    assert len(bars) == 3
    for bar in bars:
        assert bar[:, 0] == pytest.approx([across[0], across[2]], abs=0.01)
