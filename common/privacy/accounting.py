"""What releases cost: ε at δ, by the accountants of dp-accounting.

Neighbouring data sets differ by one unit that is added or removed. A release is a sum over the units, each bounded and
each in it by its own draw (Poisson sampling), with Gaussian noise on the sum.

The privacy loss distribution (PLD; Koskela et al. 2020, arXiv 1906.03049) gives ε, Rényi differential privacy
(Mironov 2017, arXiv 1702.07476) checks it from above.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import gammaln, logsumexp

Spent = Mapping["Release", int]  # how often each was made
_ORDERS = np.arange(2, 257)


@dataclass(frozen=True)
class Release:
    """One noisy sum.

    Attributes:
        rate: chance of a unit to be in it; 1 for every one.
        noise_multiplier: standard deviation of the noise over what one unit changes the sum by.
        discrete: the noise is the sum of several sites' discrete Gaussians, of which concentrated differential privacy is
            known (Kairouz et al. 2021, arXiv 2102.06387, Proposition 14), not the whole distribution of the loss.
    """

    rate: float
    noise_multiplier: float
    discrete: bool = False


def epsilon(spent: Spent, delta: float, interval: float = 1e-4) -> float:
    """Return ε at δ of several releases together: by PLD, or by Rényi orders where one of them is discrete.

    Args:
        spent: the releases.
        delta: δ.
        interval: of the grid of losses; a coarser one is faster and gives a larger ε.
    """
    spent = {release: times for release, times in spent.items() if times}
    if not spent:
        return 0.0
    if not all(release.noise_multiplier for release in spent):
        return float("inf")
    if any(release.discrete for release in spent):
        return epsilon_by_orders(spent, delta)
    return _epsilon_by_pld(tuple(sorted(spent.items(), key=repr)), delta, interval)


def epsilon_by_orders(spent: Spent, delta: float) -> float:
    """Return ε at δ of several releases by Rényi differential privacy: an upper bound."""
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.rdp import RdpAccountant, compute_epsilon

    if any(release.discrete for release in spent):
        costs = sum(times * np.array(_divergences(release)) for release, times in spent.items())
        return float(compute_epsilon(_ORDERS, costs, delta)[0])
    accountant = RdpAccountant()
    for release, times in spent.items():
        accountant.compose(PoissonSampledDpEvent(release.rate, GaussianDpEvent(release.noise_multiplier)), times)
    return float(accountant.get_epsilon(delta))


def noise_for(releases: Callable[[float], Spent], target: float, delta: float) -> float:
    """Return the smallest noise multiplier, to 0.1 %, at which ``releases(noise multiplier)`` cost at most ε = ``target``."""

    def affordable(noise: float) -> bool:
        return epsilon(releases(noise), delta, 1e-3) <= target

    low, high = 0.0, 1.0
    while not affordable(high):
        low, high = high, 2 * high
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        if affordable(middle):
            high = middle
        else:
            low = middle
    return high


@lru_cache(maxsize=4096)
def _epsilon_by_pld(spent: tuple[tuple[Release, int], ...], delta: float, interval: float) -> float:
    whole: Any = None
    for release, times in spent:
        part = _pld(release, interval).self_compose(times)
        whole = part if whole is None else whole.compose(part)
    return float(whole.get_epsilon_for_delta(delta))


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
    """Return a bound of the Rényi divergence of a release at each of ``_ORDERS``.

    For a sample: Zhu and Wang 2019, "Poisson Subsampled Rényi Differential Privacy", Theorem 5, which holds for any
    mechanism; for Gaussian noise that is not discrete the factor 3 falls away.
    """
    plain = _ORDERS / (2 * release.noise_multiplier**2)
    if release.rate == 1:
        return tuple(plain)
    stay, general = np.log1p(-release.rate), np.log(3) if release.discrete else 0.0
    sampled = []
    for order in _ORDERS.tolist():
        j = np.arange(2, order + 1)
        terms = gammaln(order + 1) - gammaln(j + 1) - gammaln(order - j + 1) + j * np.log(release.rate)
        terms += (order - j) * stay + (j - 1) * plain[j - 2] + np.where(j > 2, general, 0.0)
        none_or_one = (order - 1) * stay + np.log1p((order - 1) * release.rate)
        sampled.append(float(logsumexp(np.append(terms, none_or_one))) / (order - 1))
    return tuple(np.minimum(plain, sampled))
