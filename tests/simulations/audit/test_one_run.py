"""The lower bound of ε from one run: against published numbers, and mechanisms of known ε."""

import math
from bisect import bisect_right

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from fedtransfer.simulations.audit.one_run import guesses_for, lower_bound, right_guesses


@pytest.mark.parametrize(
    ("guesses", "correct", "expected"),
    [
        (50, 50, 2.78),
        (100, 100, 3.49),
        (500, 500, 5.11),
        (1000, 1000, 5.81),
        (5000, 5000, 7.42),
        (1000, 900, 2.02),
        (1000, 750, 0.98),
        (1000, 600, 0.30),
    ],
)
def test_without_delta_it_is_the_binomial_bound(guesses: int, correct: int, expected: float) -> None:
    assert lower_bound(correct, guesses, guesses, 0.0) == pytest.approx(expected, abs=0.005)


def test_delta_enters_as_in_theorem_5_2() -> None:
    """At the returned ε the chance is 5 %, by the theorem's sums written out."""
    correct, guesses, canaries, delta = 80, 100, 1000, 1e-4
    epsilon = lower_bound(correct, guesses, canaries, delta)
    right = math.exp(epsilon) / (1 + math.exp(epsilon))
    chance = [math.comb(guesses, w) * right**w * (1 - right) ** (guesses - w) for w in range(guesses + 1)]
    alpha = max(sum(chance[correct - i : correct]) / i for i in range(1, correct + 1))
    assert sum(chance[correct:]) + 2 * canaries * delta * alpha == pytest.approx(0.05, rel=1e-4)
    assert epsilon < lower_bound(correct, guesses, canaries, 0.0) - 0.02


@given(st.integers(1, 300), st.data())
def test_more_right_guesses_refute_more_and_caution_refutes_less(guesses: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, guesses - 1))
    bound = lower_bound(correct, guesses, 300, 1e-5)
    assert 0 <= bound <= lower_bound(correct + 1, guesses, 300, 1e-5)
    assert lower_bound(correct, guesses, 3000, 1e-5) <= bound
    assert lower_bound(correct, guesses, 300, 1e-4) <= bound
    assert lower_bound(correct, guesses, 300, 1e-5, confidence=0.99) <= bound


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_randomised_response_is_refuted_in_one_of_twenty_runs_and_no_more(epsilon: float) -> None:
    """Guesses are right with a chance of e^ε / (1 + e^ε), independently: the bound is exact."""
    correct = binom(1000, 1 / (1 + math.exp(-epsilon)))
    # Bounds rise with the number of right guesses (test above): from some on they are too high.
    highest = bisect_right(range(1001), epsilon, key=lambda v: lower_bound(v, 1000, 1000, 0.0)) - 1
    assert 0.035 < correct.sf(highest) <= 0.05
    quantiles = correct.ppf((np.arange(20) + 0.5) / 20)
    assert np.mean([lower_bound(int(v), 1000, 1000, 0.0) for v in quantiles]) > 0.75 * epsilon


@pytest.mark.parametrize("claim", [0.5, 1.0, 4.0])
def test_so_many_guesses_are_needed_for_a_claim_and_no_fewer(claim: float) -> None:
    guesses = guesses_for(claim, 2000, 1e-5)
    assert (
        lower_bound(guesses - 1, guesses - 1, 2000, 1e-5) <= claim < lower_bound(guesses, guesses, 2000, 1e-5)
    )


def test_a_claim_that_so_few_canaries_cannot_refute_is_refused() -> None:
    with pytest.raises(ValueError, match=r"100 canaries .* epsilon 4; .*164"):
        guesses_for(4.0, 100, 1e-5)


@pytest.mark.parametrize(("correct", "guesses", "canaries"), [(3, 2, 5), (1, 6, 5), (-1, 2, 5)])
def test_numbers_that_cannot_be_are_refused(correct: int, guesses: int, canaries: int) -> None:
    with pytest.raises(ValueError, match="expected no more of each than of the next"):
        lower_bound(correct, guesses, canaries, 0.0)


def test_the_highest_scores_are_guessed_to_be_inside_and_the_lowest_outside() -> None:
    inside = np.array([True, False, True, False, True])
    scores = np.array([9.0, 8.0, 0.0, -9.0, -8.0])
    assert [right_guesses(scores, inside, guesses) for guesses in range(6)] == [0, 1, 2, 2, 2, 3]
