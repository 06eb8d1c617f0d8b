import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.schedule import FINAL, rate


@pytest.mark.parametrize(("schedule", "middle", "last"), [("constant", 1.0, 1.0), ("cosine", 0.505, 0.01)])
def test_the_rate_halfway_is_the_formula_s(schedule: str, middle: float, last: float) -> None:
    config = RunConfig(rounds=11, schedule=schedule)
    assert rate(config, 1) == 1.0
    assert rate(config, 6) == pytest.approx(middle)
    assert rate(config, 11) == pytest.approx(last)


def test_a_quarter_of_the_way_cosine_is_above_the_line() -> None:
    config = RunConfig(rounds=9, schedule="cosine")
    assert rate(config, 3) == pytest.approx(0.01 + 0.99 * (1 + math.cos(math.pi / 4)) / 2)


@given(st.integers(2, 300))
def test_it_falls_from_one_to_its_last_value_and_stays_there(rounds: int) -> None:
    config = RunConfig(rounds=rounds, schedule="cosine")
    shares = [rate(config, r) for r in range(1, rounds + 1)]
    assert shares[0] == 1.0
    assert all(a > b for a, b in pairwise(shares))
    assert shares[-1] == pytest.approx(FINAL)
    assert rate(config, rounds + 7) == shares[-1]


def test_a_single_round_has_the_full_rate() -> None:
    assert rate(RunConfig(rounds=1, schedule="cosine"), 1) == 1.0
