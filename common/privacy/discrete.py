"""Noise in shares of several sites: the distributed discrete Gaussian mechanism.

Kairouz, Liu and Steinke 2021, "The Distributed Discrete Gaussian Mechanism for Federated Learning
with Secure Aggregation", arXiv 2102.06387. Every site rounds its sum to integers and adds a share
of noise. Masks add up integers exactly, so the total holds the noise of all shares, and no
floating-point artefact reveals the sum.

The discrete Gaussian is exact, given uniform bits, since every decision compares integers. Rounding
draws 53 bits of float64 and is unbiased up to these; the bound on its sensitivity holds for every
draw. The float64 arithmetic before it is not exact; ``integer_sensitivity`` reserves a whole step
of each entry for it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

# The sum of m discrete Gaussians is not one. Proposition 14 puts the difference at τ·√d on
# 1/√(2 ρ), of concentrated differential privacy ρ, with τ = 10 Σ_{k<m} exp(-2π²σ² k/(k+1))
# ≤ 10 m exp(-π²σ²) for shares of deviation σ. From this deviation on, that is below 1e-260 for
# a million sites and entries, negligible compared with the rounding of ε.
_LEAST_DEVIATION = 8
_MOST_DEVIATION = 2**55  # beyond it, multiples of it overflow int64


def rounded(arrays: Sequence[NDArray[Any]], scale: float, rng: np.random.Generator) -> tuple[Integers, ...]:
    """Round ``arrays * scale`` to integers, up or down at random so that means are exact.

    Args:
        arrays: of any shapes; sums over units must be in float64.
        scale: steps per 1; a power of two, so that the product is exact.
        rng: source of the draws.

    Raises:
        ValueError: an entry is not finite, or beyond 2**52 steps, where float64 has no fractions.
    """
    result = []
    for array in arrays:
        with np.errstate(over="ignore"):
            steps = np.asarray(array, np.float64) * scale
        if not (np.abs(steps) < 2.0**52).all():
            raise ValueError(f"rounding: an entry is not finite, or has 2**52 steps of 1/{scale:g} or more")
        down = np.floor(steps)
        result.append((down + (rng.random(steps.shape) < steps - down)).astype(np.int64))
    return tuple(result)


def integer_sensitivity(clip: float, scale: float, d: int) -> float:
    """Return the largest norm by which one unit more or less changes ``rounded`` sums of d entries.

    With the same draws, an entry that changes by x steps before rounding changes by less than |x| +
    1 after it, and by one more if float64 moves it by up to a step. Norms add: clip·scale + 2√d.
    (The bound of the paper, for coarse scales, redraws until the norm of a rounded unit is small.
    It does not apply to a site that rounds the sum of many units.)

    The float64 error of a sum of n units has a norm of at most γ·n·clip·scale, with γ = (B +
    n/B)·2**-53 for sums of B units at a time (Higham 2002, section 4.2), and two sums differ by
    twice that. So √d is enough for any data as long as 2γ·n·clip·scale ≤ √d: with 2**28 steps to a
    clip and B = 4096, up to n = 1e5 for d = 771, and n = 4e6 for the Gram matrix of 2048 features.
    With independent rounding errors γ would be √(B + n/B)·2**-53, and n = 5e6 for d = 771.
    """
    return clip * scale + 2 * math.sqrt(d)


def share(
    size: int, sensitivity: float, noise_multiplier: float, honest: int, rng: np.random.Generator
) -> Integers:
    """Return a site's share (size,) of the noise.

    ``honest`` shares together have a deviation of noise_multiplier·sensitivity.

    Args:
        size: the number of entries.
        sensitivity: of the sum of integers to one unit (``integer_sensitivity``).
        noise_multiplier: standard deviation of the whole noise, divided by the sensitivity.
        honest: the smallest number of sites in a total that keep their shares secret.
        rng: source of the noise; outside tests ``gaussian.secret_generator``.

    Raises:
        ValueError: the deviation of the share is below 8 steps, too few for the sum of shares to be
            as good as one discrete Gaussian, or beyond 2**55 steps, too many for 64 bits.
    """
    deviation = noise_multiplier * sensitivity / math.sqrt(honest)
    if not _LEAST_DEVIATION <= deviation <= _MOST_DEVIATION:
        raise ValueError(
            f"share of noise: got a deviation of {deviation:g} steps; expected {_LEAST_DEVIATION} to 2**55, "
            "by another scale or noise multiplier"
        )
    return discrete_gaussian(size, math.ceil(deviation), rng)


def discrete_gaussian(size: int, deviation: int, rng: np.random.Generator) -> Integers:
    """Return integers (size,), x with probability ∝ exp(-x²/2σ²), for an integer σ, 1 to 2**55.

    Canonne, Kamath and Steinke 2020, arXiv 2004.00010, define it and give trials of probability
    exp(-γ). Proposals are by Karney 2016, arXiv 1303.6257, Algorithm D: x = ±(kσ + j) with k by
    exp(-k²/2) and j uniform below σ, accepted with probability exp(-kj/σ)·exp(-(j/σ)²/2). About
    half of them are accepted.
    """
    accepted: list[Integers] = [np.zeros(0, np.int64)]
    while (missing := size - sum(map(len, accepted))) > 0:
        count = 2 * missing + 32
        k = _geometric(count, rng)
        k = k[_all_succeed(k * (k - 1), np.ones_like(k), 2, rng)]  # now by exp(-k/2)·exp(-k(k-1)/2)
        j = rng.integers(0, deviation, k.size)
        fine = _all_succeed(k, j, deviation, rng)
        k, j = k[fine], j[fine]
        fine = _square_succeeds(j, deviation, rng)
        x = k[fine] * deviation + j[fine]
        negative = rng.integers(0, 2, x.size) == 1
        fine = ~(negative & (x == 0))  # zero must not count twice
        accepted.append(np.where(negative, -x, x)[fine][:missing])
    return np.concatenate(accepted)


def _geometric(size: int, rng: np.random.Generator) -> Integers:
    """Return counts of successes before a failure: k with probability exp(-k/2)·(1 - exp(-1/2))."""
    k = np.zeros(size, np.int64)
    going = np.arange(size)
    while going.size:
        going = going[_succeeds(np.ones(going.size, np.int64), 2, rng)]
        k[going] += 1
    return k


def _all_succeed(times: Integers, j: Integers, of: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return whether ``times`` independent trials of probability exp(-j/of) all succeed."""
    result = np.ones(times.size, bool)
    done = 0
    while (going := np.flatnonzero(result & (times > done))).size:
        result[going] = _succeeds(j[going], of, rng)
        done += 1
    return result


def _succeeds(j: Integers, of: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return true with probability exp(-j/of), for each 0 ≤ j ≤ of."""
    return _with_chance_of_exp(j.size, lambda going, n: rng.integers(0, n * of, going.size) < j[going])


def _square_succeeds(j: Integers, of: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return true with probability exp(-(j/of)²/2), for each 0 ≤ j ≤ of."""

    def trial(going: Integers, n: int) -> NDArray[np.bool_]:
        first, second = (rng.integers(0, of, going.size) < j[going] for _ in range(2))
        return first & second & (rng.integers(0, 2 * n, going.size) == 0)

    return _with_chance_of_exp(j.size, trial)


def _with_chance_of_exp(size: int, trial: Callable[[Integers, int], NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """True with probability exp(-γ), by trials of γ/n (Canonne et al., Algorithm 1).

    ``trial`` takes positions and n, and returns whether the n-th trial succeeds at each of these.
    """
    result = np.zeros(size, bool)
    going, n = np.arange(size), 1
    while going.size:
        on = trial(going, n)
        result[going[~on]] = n % 2 == 1
        going, n = going[on], n + 1
    return result
