"""Gaussian noise on a sum."""

import numpy as np
import pytest
from scipy.stats import chi2, kstest

from fedtransfer.common.privacy.gaussian import noised, secret_generator


@pytest.mark.parametrize("deviation", [1e-3, 2.5, 1e6])
def test_noise_has_the_variance_that_was_asked_for(deviation: float) -> None:
    """Over 10,000 draws, for a sum of no unit as well; a false alarm in a million runs."""
    for total in (np.zeros((100, 100), np.float32), np.full((100, 100), 7.0)):
        (result,) = noised([total], deviation, secret_generator())
        noise = result - total
        low, high = chi2.ppf([5e-7, 1 - 5e-7], noise.size)
        assert low < (noise**2).sum() / deviation**2 < high
        assert kstest(noise.ravel() / deviation, "norm").pvalue > 1e-6


def test_every_entry_and_every_call_has_noise_of_its_own() -> None:
    rng = secret_generator()
    first, second = noised([np.zeros(5000), np.zeros((50, 100))], 1.0, rng)
    (third,) = noised([np.zeros(5000)], 1.0, rng)
    assert (first.dtype, second.shape) == (np.float64, (50, 100))
    for one, other in ((first, second.ravel()), (first, third), (first[1:], first[:-1])):
        assert abs(np.mean(one * other)) < 5 / np.sqrt(one.size)


def test_a_generator_that_is_given_repeats() -> None:
    one, two = (noised([np.arange(3)], 2.0, np.random.default_rng(4))[0] for _ in range(2))
    assert np.array_equal(one, two)
    assert np.array_equal(noised([np.arange(3)], 0.0, np.random.default_rng(4))[0], [0, 1, 2])


@pytest.mark.parametrize("deviation", [-1.0, np.nan, np.inf])
def test_deviations_that_are_none_are_refused(deviation: float) -> None:
    with pytest.raises(ValueError, match=f"deviation of noise: got {deviation}"):
        noised([np.zeros(3)], deviation, np.random.default_rng(0))
