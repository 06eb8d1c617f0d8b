"""The geometric median: the smallest sum of distances, from which a minority cannot drive it."""

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtransfer.server.strategies.geometric_median import geometric_median

SEEDS = st.integers(0, 10**6)


def points(seed: int, number: int, width: int = 4) -> np.ndarray:
    """Points about a place that is not zero, some farther from it than others."""
    rng = np.random.default_rng(seed)
    return 3 + rng.normal(size=(number, width)) * rng.uniform(0.1, 3, (number, 1))


def distances(place: np.ndarray, x: np.ndarray) -> float:
    return float(sum(np.sqrt((each - place) @ (each - place)) for each in x))


@settings(max_examples=10)
@given(SEEDS, st.integers(1, 12))
def test_no_other_place_is_nearer_to_the_points(seed: int, number: int) -> None:
    """As scipy's minimiser finds, which knows nothing of Weiszfeld, begun at three places."""
    x = points(seed, number)
    sum_there = distances(geometric_median(x), x)
    for start in (x.mean(0), x[0], np.zeros(4)):
        best = scipy.optimize.minimize(distances, start, args=(x,), method="Nelder-Mead")
        assert sum_there <= best.fun * (1 + 1e-6) + 1e-9


@given(SEEDS, st.integers(1, 12))
def test_it_does_not_depend_on_the_order_of_the_points(seed: int, number: int) -> None:
    x = points(seed, number)
    shuffled = np.random.default_rng(seed).permutation(x)
    np.testing.assert_allclose(geometric_median(shuffled), geometric_median(x), atol=1e-6)


@given(SEEDS, st.integers(3, 12), st.floats(1e-3, 1e3))
def test_it_moves_turns_and_grows_with_the_points(seed: int, number: int, scale: float) -> None:
    x, rng = points(seed, number), np.random.default_rng(seed + 1)
    turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    shift = rng.normal(size=4)
    expected = scale * geometric_median(x) @ turn + shift
    np.testing.assert_allclose(geometric_median(scale * x @ turn + shift), expected, atol=1e-5 * scale + 1e-9)


@given(SEEDS, st.integers(3, 15), st.floats(0, 12))
def test_a_minority_cannot_drive_it_away(seed: int, number: int, power: float) -> None:
    """The bound of Lopuhaä and Rousseeuw, wherever the minority is."""
    x, rng = points(seed, number), np.random.default_rng(seed + 1)
    f = int(rng.integers(1, (number + 1) // 2))
    place = x[f:].mean(0)
    radius = np.linalg.norm(x[f:] - place, axis=1).max()
    x[:f] = place + 10**power * rng.normal(size=(f, 4)) if seed % 2 else place + 10**power
    bound = 2 * (number - f) / (number - 2 * f) * radius
    assert np.linalg.norm(geometric_median(x) - place) <= bound * (1 + 1e-9)


def test_a_majority_at_one_place_has_it() -> None:
    x = np.array([[1.0, 2.0]] * 3 + [[50.0, -9.0], [7.0, 1e6]])
    np.testing.assert_allclose(geometric_median(x), [1, 2], atol=1e-6)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_equal_points_are_their_median(number: int) -> None:
    np.testing.assert_array_equal(geometric_median(np.full((number, 3), 0.1)), np.full(3, 0.1))


def test_of_two_points_it_is_the_middle() -> None:
    np.testing.assert_allclose(geometric_median(np.array([[0.0, 0.0], [2.0, 4.0]])), [1, 2], atol=1e-9)
