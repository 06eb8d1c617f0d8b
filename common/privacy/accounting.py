"""The cost of releases: ε at δ, by the accountants of dp-accounting.

Neighbouring data sets differ by one unit that is added or removed. A release is a sum over units
with Gaussian noise. Each unit is clipped, and is in the sum by an independent draw (Poisson
sampling).

The privacy loss distribution (PLD; Koskela et al. 2020, arXiv 1906.03049) gives ε, and Rényi
differential privacy (Mironov 2017, arXiv 1702.07476) bounds it from above. If every unit is in
every sum, the releases together are one Gaussian mechanism, whose ε is that of Balle and Wang 2018,
arXiv 1805.06530.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import gammaln

Spent = Mapping["Release", int]  # release → the number of times that it was made
_ORDERS = np.unique(np.geomspace(2, 2**14, 250).astype(int))
_NO_NOISE = 1e-3  # below it, ε is above half a million, and numbers overflow float64
_LEAST_NOISE, _MOST_NOISE = 0.01, 1e6
_MOST_EPSILON = 300  # limit for PLD, whose numbers overflow float64 beyond it
_FINENESS = 100  # of the grid of losses: an ε below 20 is too large by at most 0.1 %


@dataclass(frozen=True)
class Release:
    """One noisy sum."""

    rate: float  # the chance that a unit is in the sum; 1 if every unit is
    # Standard deviation of the noise, divided by the sensitivity of the sum to one unit.
    noise_multiplier: float
    # Whether the noise is a sum of several sites' discrete Gaussians. Their Rényi divergences are
    # known (Kairouz et al. 2021, arXiv 2102.06387, Proposition 14), their whole distribution of the
    # loss is not.
    discrete: bool = False


def epsilon(spent: Spent, delta: float) -> float:
    """Return ε at δ of several releases together, by the tightest accountant available for them."""
    spent = {release: times for release, times in spent.items() if times}
    if not spent:
        return 0.0
    return _epsilon(tuple(sorted(spent.items(), key=repr)), delta)


def epsilon_by_orders(spent: Spent, delta: float) -> float:
    """Return an upper bound on ε at δ of releases, by Rényi divergences of integer orders."""
    from dp_accounting.rdp import compute_epsilon

    costs = sum(
        (times * np.array(_divergences(release)) for release, times in spent.items()), np.zeros(len(_ORDERS))
    )
    return float(compute_epsilon(_ORDERS, costs, delta)[0])


def noise_for(releases: Callable[[float], Spent], target: float, delta: float) -> float:
    """Return the least noise multiplier, within 0.1 %, whose ``releases`` cost at most ``target``.

    Raises:
        ValueError: it is below 0.01, at which noise hides nothing, or above a million.
    """

    def affordable(noise: float) -> bool:
        return epsilon(releases(noise), delta) <= target

    low, high = _LEAST_NOISE, 1.0
    if affordable(low):
        raise ValueError(
            f"epsilon {target:g}: noise of {low:g} times what a unit changes would be enough for it, "
            "which protects nothing; give a smaller epsilon, such as 8"
        )
    while not affordable(high):
        low, high = high, 2 * high
        if high > _MOST_NOISE:
            raise ValueError(
                f"epsilon {target:g} at delta {delta:g}: even noise of {_MOST_NOISE:g} times what a unit "
                "changes is too little for it; give a larger epsilon or delta, or fewer rounds"
            )
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        if affordable(middle):
            high = middle
        else:
            low = middle
    return high


@lru_cache(maxsize=4096)
def _epsilon(spent: tuple[tuple[Release, int], ...], delta: float) -> float:
    bound = epsilon_by_orders(dict(spent), delta)
    if math.isinf(bound) or any(release.discrete for release, _ in spent):
        return bound
    # Releases without sampling are together one Gaussian mechanism; its 1/z² is the sum of theirs.
    whole = sum(times / release.noise_multiplier**2 for release, times in spent if release.rate == 1)
    sampled = [(release, times) for release, times in spent if release.rate < 1]
    if sampled and not 0 < bound <= _MOST_EPSILON:
        return bound
    if sampled:
        return min(bound, _epsilon_by_pld(sampled, whole, delta, bound))
    from dp_accounting import get_epsilon_gaussian

    with np.errstate(divide="ignore"):  # with much noise it takes the logarithm of 0
        return float(get_epsilon_gaussian(1 / math.sqrt(whole), delta))


def _epsilon_by_pld(sampled: list[tuple[Release, int]], whole: float, delta: float, bound: float) -> float:
    """Return ε of sampled releases and of ``whole``, the sum of 1/z² of the others.

    A grid of interval h adds a variance of up to h²/4 to the loss of each release. With h = bound /
    (100 √releases) that is small compared with the variance of a total whose ε is about ``bound``.
    """
    interval = 2.0 ** math.floor(
        math.log2(bound / _FINENESS / math.sqrt(1 + sum(times for _, times in sampled)))
    )
    parts = [_pld(release, interval).self_compose(times) for release, times in sampled]
    if whole:
        parts.append(_pld(Release(1, 1 / math.sqrt(whole)), interval))
    total: Any = parts[0]
    for part in parts[1:]:
        total = total.compose(part)
    return float(total.get_epsilon_for_delta(delta))


@lru_cache(maxsize=64)
def _pld(release: Release, interval: float) -> Any:
    from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism

    return from_gaussian_mechanism(
        release.noise_multiplier,
        sampling_prob=release.rate,
        value_discretization_interval=interval,
        use_connect_dots=True,
    )


@lru_cache(maxsize=64)
def _divergences(release: Release) -> tuple[float, ...]:
    """Bound the Rényi divergence of a release at each of ``_ORDERS``, in both directions.

    Mironov, Talwar and Zhang 2019, arXiv 1908.10530, section 3.3, for integer orders: the binomial
    expansion holds for any noise, with the divergences of that noise. It is the larger of the two
    directions (Theorem 5) if a reflection swaps the neighbours. Any symmetric noise has such a
    reflection, discrete Gaussians included.
    """
    if release.noise_multiplier < _NO_NOISE:
        return (math.inf,) * len(_ORDERS)
    scale = 1 / (2 * release.noise_multiplier**2)
    if release.rate == 1:
        return tuple(_ORDERS * scale)
    chosen, left = math.log(release.rate), math.log1p(-release.rate)
    log_factorials, result = gammaln(np.arange(1, _ORDERS[-1] + 2)), []
    for order in _ORDERS.tolist():
        k, logs = np.arange(order + 1), log_factorials[: order + 1]
        terms = logs[-1] - logs - logs[::-1] + k * chosen + (order - k) * left + k * (k - 1) * scale
        # What follows is SciPy's logsumexp without its checks, which took longest.
        largest = int(terms.argmax())
        others = np.exp(terms - terms[largest])
        others[largest] = 0.0
        result.append(max(0.0, float(np.log1p(others.sum()) + terms[largest])) / (order - 1))
    return tuple(result)
