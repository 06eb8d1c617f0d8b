"""Shares of discrete noise, and rounding to integers."""

import math

import numpy as np
import pytest
from scipy.stats import chi2, chisquare, kstest

from fedtransfer.common.privacy.discrete import discrete_gaussian, integer_sensitivity, rounded, share
from fedtransfer.common.privacy.gaussian import secret_generator

SCALE = 2.0**28


def within_chi_square(noise: np.ndarray, deviation: float) -> bool:
    """Whether noise has that variance; a false alarm in a million."""
    low, high = chi2.ppf([5e-7, 1 - 5e-7], noise.size)
    return bool(low < ((noise / deviation) ** 2).sum() < high)


@pytest.mark.parametrize("deviation", [1, 2, 3, 7, 20])
def test_small_deviations_have_the_chances_of_the_formula(deviation: int) -> None:
    drawn = discrete_gaussian(200_000, deviation, secret_generator())
    values = np.arange(-4 * deviation, 4 * deviation + 1)
    weights = np.exp(-(np.arange(-60 * deviation, 60 * deviation + 1) ** 2) / (2.0 * deviation**2))
    chances = np.exp(-(values**2) / (2.0 * deviation**2)) / weights.sum()
    counts = np.array([(drawn == value).sum() for value in values])
    expected = np.append(chances, 1 - chances.sum()) * drawn.size
    assert chisquare(np.append(counts, drawn.size - counts.sum()), expected).pvalue > 1e-6


@pytest.mark.parametrize("deviation", [1000, 10**8, 3 * 10**12, 2**55])
def test_large_deviations_look_like_a_gaussian_down_to_the_last_digit(deviation: int) -> None:
    drawn = discrete_gaussian(20_000, deviation, secret_generator())
    assert drawn.dtype == np.int64
    assert within_chi_square(drawn, deviation)
    assert kstest(drawn / deviation, "norm").pvalue > 1e-6
    assert chisquare(np.bincount(drawn % 8, minlength=8)).pvalue > 1e-6


@pytest.mark.parametrize("size", [0, 1, 7])
def test_as_many_as_were_asked_for(size: int) -> None:
    assert discrete_gaussian(size, 5, secret_generator()).shape == (size,)


@pytest.mark.parametrize("honest", [1, 4, 10])
def test_the_shares_of_the_honest_sites_add_up_to_the_noise_that_was_promised(honest: int) -> None:
    sensitivity = integer_sensitivity(0.1, SCALE, 10_000)
    total = sum(share(10_000, sensitivity, 1.5, honest, secret_generator()) for _ in range(honest))
    assert within_chi_square(total, 1.5 * sensitivity)


def test_the_sensitivity_is_hardly_more_than_the_clip() -> None:
    assert integer_sensitivity(1.0, SCALE, 20_490) / SCALE == pytest.approx(1, abs=2e-6)


@pytest.mark.parametrize(
    ("sensitivity", "honest"), [(7.9, 1), (100.0, 157), (2.0**56, 1), (math.nan, 1), (math.inf, 2)]
)
def test_shares_that_are_too_coarse_or_too_large_are_refused(sensitivity: float, honest: int) -> None:
    with pytest.raises(ValueError, match="share of noise: got a deviation of"):
        share(3, sensitivity, 1.0, honest, secret_generator())


def test_the_sum_of_the_coarsest_shares_is_as_good_as_one_discrete_gaussian() -> None:
    """Proposition 14's τ·√d at the least deviation, for 10⁶ sites and 10¹² entries."""
    logarithm = math.log(10 * 1e6) - math.pi**2 * 8**2 + math.log(1e12) / 2
    assert logarithm < math.log(1e-250)
    x = np.arange(-400, 401)
    one = np.exp(-(x**2) / (2 * 8.0**2))
    two = np.convolve(one / one.sum(), one / one.sum(), "same")
    ideal = np.exp(-(x**2) / (4 * 8.0**2))
    near = np.abs(x) < 150
    assert np.allclose(two[near], (ideal / ideal.sum())[near], rtol=1e-12, atol=0)


def test_rounding_keeps_the_mean_and_is_off_by_less_than_a_step() -> None:
    x = np.full(10_000, -2.3)
    (result,) = rounded([x], 1.0, secret_generator())
    assert set(result.tolist()) == {-3, -2}
    assert abs((result == -3).mean() - 0.3) < 5 * math.sqrt(0.3 * 0.7 / x.size)
    whole, single = rounded(
        [np.arange(-5.0, 5.0).reshape(2, 5), np.float32([0.5])], SCALE, secret_generator()
    )
    assert np.array_equal(whole / SCALE, np.arange(-5.0, 5.0).reshape(2, 5))
    assert (single.dtype, single.tolist()) == (np.int64, [2**27])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**24, -(2.0**24), 1e300])
def test_what_has_no_fractions_left_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="rounding: an entry is not finite, or has"):
        rounded([np.array([0.0, bad])], SCALE, secret_generator())
