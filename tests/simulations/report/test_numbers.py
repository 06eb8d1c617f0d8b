"""Numbers as the page writes them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.simulations.report.blocks import epsilon
from fedtransfer.simulations.report.estimates import rising


@given(st.floats(1e-6, 1e6))
def test_no_less_than_the_epsilon_spent_is_told(value: float) -> None:
    told = float(epsilon(value).replace(",", ""))
    assert value <= told <= 1.01 * value


@pytest.mark.parametrize(
    ("value", "told"), [(7.99999, "8"), (0.999473, "1"), (0.3, "0.3"), (2.001, "2.01"), (1234.0, "1,240")]
)
def test_epsilon_has_three_digits(value: float, told: str) -> None:
    assert epsilon(value) == told


@given(st.integers(11, 200), st.integers(0, 2**32 - 1))
def test_a_level_curve_is_not_called_rising_and_a_line_is(rounds: int, seed: int) -> None:
    noise = 0.002 * np.random.default_rng(seed).standard_normal(rounds)
    assert rising((0.7 + noise).tolist()) == 0, "less than a point"
    line = np.linspace(0.1, 0.9, rounds)
    assert rising(line.tolist()) == pytest.approx((rounds - 1) // 5 * (line[1] - line[0]))
