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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import bisect
from scipy.stats import binom

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.common.seeds import generator
from fedtransfer.simulations.audit.canaries import Canaries, of_run

_CANARIES = (2000, 4000)
_GUESSED = 0.9  # of the canaries, at most
_LEAST_PROVABLE = 5.0  # for fewer guesses a bound would hang on single ones
_LARGEST = 50.0  # ε that is looked for


@dataclass(frozen=True)
class OneRun:
    """What an audit of one run found."""

    bound: float  # lower bound of ε, at 95 % confidence
    claimed: float | None  # ε that the run promises at its δ; None where it promises nothing
    most: float  # the bound that all guesses right would give: no such audit can refute a larger claim
    guesses: int  # that were made
    right: int  # of them
    canaries: int


def one_run_bound(config: RunConfig, seed: int) -> OneRun:
    """Audit all rounds of what a config asks for, on canaries in place of its data.

    Sampling, steps, noise, clip and δ are the config's; canaries are images of one site, or sites
    where sites are protected. Without differential privacy they go through the plain algorithm, for
    the first round of a linear head. Masks do not change results. ``seed`` is of all randomness.

    Raises:
        UserError: the noise is shared among sites, which is not audited; or it cannot be found.
    """
    if config.noise == "shared":
        raise UserError(
            "noise shared: what several sites' whole-numbered noise adds up to is not audited; "
            "audit the run with --noise alone and the same --noise-multiplier"
        )
    promised = guarantee(config)
    claimed = promised.epsilon(promised.affordable) if promised else None
    count, guesses = _size(claimed, config.delta)
    rng = generator(seed, "audit", config.strategy, config.dp)
    canaries = Canaries.draw(count, rng, length=100 * max(1.0, config.clip))
    right = right_guesses(of_run(config, promised, canaries, rng), canaries.inside, guesses)
    bound, most = (lower_bound(correct, guesses, count, config.delta) for correct in (right, guesses))
    return OneRun(bound, claimed, most, guesses, right, count)


def _size(claimed: float | None, delta: float) -> tuple[int, int]:
    """Return the numbers of canaries and guesses that can refute a claim, or the most if none can.

    Half of the guesses are "inside", so as many canaries must be inside. With guesses on 90 % of
    2,000 canaries this fails with a probability below 1e-5.
    """
    if claimed is None:
        return _CANARIES[0], int(_GUESSED * _CANARIES[0])
    for count in _CANARIES:
        most = int(_GUESSED * count)
        provable = lower_bound(most, most, count, delta)
        if (target := max(_LEAST_PROVABLE, claimed + 1)) < provable:
            return count, guesses_for(target, count, delta)
    return count, most


def lower_bound(correct: int, guesses: int, canaries: int, delta: float, confidence: float = 0.95) -> float:
    """Return the largest ε that is refuted, or 0: the mechanism's ε is above it at this confidence.

    Args:
        correct: v, guesses that were right.
        guesses: r, a number chosen before the audit.
        canaries: m, with and without a guess.
        delta: the δ of ε.
        confidence: chance that a mechanism with less than the returned ε does not come out so.

    Raises:
        ValueError: more guesses are right than were made, or made than there are canaries.
    """
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(
            f"got {correct} right of {guesses} guesses of {canaries} canaries; "
            "expected no more of each than of the next"
        )

    def excess(epsilon: float) -> float:
        return _chance(epsilon, correct, guesses, canaries, delta) - (1 - confidence)

    if excess(0.0) >= 0:
        return 0.0
    return float(bisect(excess, 0.0, _LARGEST, xtol=1e-6))


def guesses_for(claim: float, canaries: int, delta: float) -> int:
    """Return the smallest number of guesses that refute more than ε = ``claim`` if all are right.

    Raises:
        ValueError: the canaries are too few for it.
    """
    low, high = 0, canaries
    if lower_bound(high, high, canaries, delta) <= claim:
        raise ValueError(
            f"{canaries} canaries cannot refute epsilon {claim:g}; "
            f"more are needed, about {math.ceil(3 * math.exp(claim))}"
        )
    while high - low > 1:
        middle = (low + high) // 2
        if lower_bound(middle, middle, canaries, delta) > claim:
            high = middle
        else:
            low = middle
    return high


def right_guesses(scores: NDArray[np.floating], inside: NDArray[np.bool_], guesses: int) -> int:
    """Return how many ``guesses`` are right: the highest scores are inside, as many lowest outside.

    Scores (m,) are higher for canaries that seem to be in the data, ``inside`` (m,) says which are.
    One more of an odd number of guesses is "inside".
    """
    order = np.argsort(scores, kind="stable")
    outside = guesses // 2
    return int((~inside[order[:outside]]).sum() + inside[order[len(order) - (guesses - outside) :]].sum())


def _chance(epsilon: float, correct: int, guesses: int, canaries: int, delta: float) -> float:
    """Return the bound of Theorem 5.2."""
    right = 1 / (1 + math.exp(-epsilon))
    # P[v - i ≤ W < v], i = 1 … v.
    below = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), guesses, right))
    steepest = (below / np.arange(1, correct + 1)).max(initial=0.0)
    return float(binom.sf(correct - 1, guesses, right) + 2 * canaries * delta * steepest)
