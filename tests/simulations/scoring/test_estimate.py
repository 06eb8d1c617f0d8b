"""Means with intervals, and curves that still rise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedtransfer.simulations.scoring.estimate import Estimate, rising


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9, unique=True))
def test_intervals_are_those_of_the_t_distribution(values: list[float]) -> None:
    estimate = Estimate.from_values(values)
    ends = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(
        [estimate.mean - estimate.half, estimate.mean + estimate.half], ends, atol=1e-12
    )
    if len(values) > 2:
        np.testing.assert_allclose([estimate.low, estimate.high], ends, atol=1e-12)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((), ""),
        ((math.nan, 0.5), "0.5"),
        ((0.25, 0.75), "0.5 (0.2 to 0.8)"),
        ((0.4, 0.5, 0.6), "0.5 ± 0.2"),
    ],
)
def test_an_interval_needs_three_values(values: tuple[float, ...], text: str) -> None:
    estimate = Estimate.from_values(values)
    assert estimate.text(lambda value: f"{value:.1f}") == text
    assert estimate.n == sum(not math.isnan(value) for value in values)


def test_a_bootstrap_needs_ten_values() -> None:
    """Of fewer it holds the truth far less often than it says."""
    nothing, one, few, ten = (
        Estimate.bootstrapped(values) for values in ([], [1.0], [1.0] * 9, [0.0, 1.0] * 5)
    )
    assert math.isnan(nothing.mean)
    assert (nothing.n, one.n, one.mean) == (0, 1, 1.0)
    assert all(math.isnan(estimate.low) for estimate in (nothing, one, few))
    assert 0 < ten.low < 0.5 < ten.high < 1


@given(st.integers(11, 200), st.integers(0, 2**32 - 1))
def test_a_level_curve_does_not_rise_and_a_line_does(rounds: int, seed: int) -> None:
    noise = 0.002 * np.random.default_rng(seed).standard_normal(rounds)
    assert rising((0.7 + noise).tolist()) == 0, "less than a point"
    line = np.linspace(0.1, 0.9, rounds)
    assert rising(line.tolist()) == pytest.approx((rounds - 1) // 5 * (line[1] - line[0]))
