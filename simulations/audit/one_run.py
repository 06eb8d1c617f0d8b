"""A lower bound of ε from one run.

Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1) Training Run" (arXiv 2305.08846).

A fair coin decides for each of m canaries whether it is in the data. The auditor scores every
canary by what the mechanism releases, and guesses on the r of the surest scores. If the mechanism
is (ε, δ) differentially private, adding or removing one canary, then v of r guesses or more are
right with a probability of at most (Theorem 5.2)

    β + 2 m δ max_i (P[v - i ≤ W < v] / i),   β = P[W ≥ v],   W ~ Binomial(r, e^ε / (1 + e^ε)).

The ε for which that is less than 5 % are refuted. No mechanism can be refuted beyond what r right
guesses of r allow, about ln(r / 3).
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import bisect
from scipy.stats import binom

_LARGEST = 50.0  # ε that is looked for


def lower_bound(correct: int, guesses: int, canaries: int, delta: float, confidence: float = 0.95) -> float:
    """Return the largest ε that is refuted, or 0: the mechanism's ε is above it at this confidence.

    Args:
        correct: v, guesses that were right.
        guesses: r, a number chosen before the audit.
        canaries: m, those that a guess was made for and those that none was.
        delta: the δ of ε.
        confidence: chance that a mechanism with less than the returned ε does not come out so.

    Raises:
        ValueError: more guesses are right than were made, or made than there are canaries.
    """
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(
            f"got {correct} right of {guesses} guesses of {canaries} canaries; expected no more of each than of the next"
        )

    def excess(epsilon: float) -> float:
        return _chance(epsilon, correct, guesses, canaries, delta) - (1 - confidence)

    if excess(0.0) >= 0:
        return 0.0
    return float(bisect(excess, 0.0, _LARGEST, xtol=1e-6))


def guesses_for(claim: float, canaries: int, delta: float, confidence: float = 0.95) -> int:
    """Return the smallest number of guesses that refute more than ε = ``claim`` if all are right.

    Raises:
        ValueError: the canaries are too few for it.
    """
    low, high = 0, canaries
    if lower_bound(high, high, canaries, delta, confidence) <= claim:
        raise ValueError(
            f"{canaries} canaries cannot refute epsilon {claim:g}; more are needed, about {math.ceil(3 * math.exp(claim))}"
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if lower_bound(middle, middle, canaries, delta, confidence) > claim else (middle, high)
        )
    return high


def right_guesses(scores: NDArray[np.floating], inside: NDArray[np.bool_], guesses: int) -> int:
    """Return the number of right guesses: the highest scores are inside, as many of the lowest outside.

    Args:
        scores: (m,), higher for canaries that seem to be in the data.
        inside: (m,), which of them are.
        guesses: r; one more of them is "inside" where it is odd.
    """
    order = np.argsort(scores, kind="stable")
    outside = guesses // 2
    return int((~inside[order[:outside]]).sum() + inside[order[len(order) - (guesses - outside) :]].sum())


def _chance(epsilon: float, correct: int, guesses: int, canaries: int, delta: float) -> float:
    """Return the bound of Theorem 5.2."""
    right = 1 / (1 + math.exp(-epsilon))
    below = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), guesses, right))  # P[v - i ≤ W < v], i = 1 … v
    steepest = (below / np.arange(1, correct + 1)).max(initial=0.0)
    return float(binom.sf(correct - 1, guesses, right) + 2 * canaries * delta * steepest)
