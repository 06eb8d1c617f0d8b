"""Points that would cover each other stand side by side, and nothing else moves."""

import math

from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.simulations.report.blocks import Caption
from fedtransfer.simulations.report.chart_data import Axis, Dot, Series, bars_apart, in_a_row
from fedtransfer.simulations.report.charts import SIDE_BY_SIDE, dot_chart, line_chart

COLUMNS = ("site", "federated", "alone")
PERCENT = Axis("accuracy", kind="percent")


@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), min_size=1, max_size=7))
def test_points_of_a_row_that_are_near_each_other_differ_in_height_and_stay_in_their_row(
    values: list[float],
) -> None:
    moved = in_a_row(values, 1.0)
    assert max(map(abs, moved)) < 0.5
    for i, a in enumerate(values):
        near = [j for j, b in enumerate(values) if j != i and abs(a - b) <= 0.02]
        assert all(abs(moved[i] - moved[j]) > 0.09 for j in near)
        if not any(abs(a - b) <= 0.03 for j, b in enumerate(values) if j != i):
            assert moved[i] == 0


def series(name: str, x: list[float], y: list[float], half: float = 0.02) -> Series:
    return Series(name, x, y, [(value - half, value + half) for value in y])


def test_bars_at_one_place_that_overlap_stand_side_by_side_and_others_stay() -> None:
    a, b = series("a", [1, 8], [0.5, 0.6]), series("b", [1, 8], [0.4, 0.61])
    left, right = bars_apart([a, b], log=True)
    assert left.x[0] == right.x[0] == 1, "their bars do not touch"
    assert left.x[1] < 8 < right.x[1]
    assert right.x[1] / left.x[1] < 1.1
    assert (left.y, left.ends) == (a.y, a.ends)
    free = [a, series("c", [2, 4], [0.5, 0.6])]
    assert all(new is old for new, old in zip(bars_apart(free, log=True), free, strict=True))


def test_bars_of_one_method_at_one_place_stand_side_by_side() -> None:
    [moved] = bars_apart([series("dp", [3550, 3550, 300000], [0.81, 0.89, 0.5], 0.06)], log=True)
    assert moved.x[0] < 3550 < moved.x[1]
    assert moved.x[2] == 300000


def test_a_figure_says_that_points_were_moved_and_its_table_tells_the_true_ones() -> None:
    figure = dot_chart(
        Caption("by site", "d."), [Dot("a", (1.0, 1.0)), Dot("b", (0.75, 1.0))], COLUMNS, PERCENT
    )
    assert figure.caption.note == SIDE_BY_SIDE
    assert figure.table.rows[0] == ("a", "100.0\u00a0%", "100.0\u00a0%")
    assert dot_chart(Caption("free", "d."), [Dot("a", (0.5, 1.0))], COLUMNS, PERCENT).caption.note == ""
    bytes_ = Axis("bytes", log=True, kind="bytes")
    lines = [Series("dp", [3550, 3550], [0.81, 0.83], [(0.7, 0.9), (0.7, 0.9)], joined=False)]
    figure = line_chart(Caption("by bytes", "d.", "A note."), lines, bytes_, PERCENT)
    assert figure.caption.note == f"A note. {SIDE_BY_SIDE}"
    assert {row[1] for row in figure.table.rows} == {"3.55 KB"}
