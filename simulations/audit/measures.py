"""How well scores tell members from others: AUC, true positive rates where false ones are few, and points of the ROC curve.

An attack that is sure of a few members matters more than one that is a little better than chance on all, so beside the AUC
there are the true positive rates at false positive rates of 1 % and 0.1 % (Carlini et al. 2022, arXiv 2112.03570).

Intervals are of 95 %. Over several targets they are of a bootstrap that draws targets, since one head's answers hang together. For a
single target that AUC has the standard error of Hanley and McNeil 1982, and a true positive rate the interval of Clopper and Pearson
1934, both for independent answers.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, norm
from sklearn.metrics import auc, roc_curve

from simulations.audit.membership import Scores
from simulations.audit.shadows import Members

RATES = {"tpr@1%": 0.01, "tpr@0.1%": 0.001}
ABOVE = 10  # answers for non-members that a false positive rate must be made of
POINTS = 200  # of a curve
_RESAMPLES = 200
_CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A measure with its interval of 95 %; all NaN where there are too few answers for it."""

    value: float
    low: float
    high: float


class Curve(NamedTuple):
    """A ROC curve: false and true positive rates, both from 0 up to 1."""

    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]

    @property
    def auc(self) -> float:
        """The area below."""
        return float(auc(self.fpr, self.tpr))

    def at(self, fpr: float) -> float:
        """Return the true positive rate of the lowest threshold with at most this false positive rate."""
        return float(self.tpr[np.searchsorted(self.fpr, fpr, "right") - 1])


def curve(scores: Scores, inside: Members, weights: NDArray[np.float64] | None = None) -> Curve:
    """Return the ROC curve of scores, higher for members, of any shape, each answer counted ``weights`` times."""
    weights = None if weights is None else weights.ravel()
    return Curve(*roc_curve(inside.ravel(), scores.ravel(), sample_weight=weights, drop_intermediate=False)[:2])


def measured(scores: Scores, inside: Members, rng: np.random.Generator) -> dict[str, Estimate]:
    """Return ``auc``, ``tpr@1%`` and ``tpr@0.1%`` of all answers together.

    Args:
        scores: (T, n) of T targets.
        inside: which are members, (T, n).
        rng: draws targets for the bootstrap.
    """
    members, others = int(inside.sum()), int((~inside).sum())
    whole = curve(scores, inside)
    rates = {name: fpr for name, fpr in RATES.items() if others * fpr >= ABOVE}
    missing = {name: Estimate(math.nan, math.nan, math.nan) for name in RATES if name not in rates}
    values = {"auc": whole.auc} | {name: whole.at(fpr) for name, fpr in rates.items()}
    if len(scores) > 1:
        return _bootstrapped(values, rates, scores, inside, rng) | missing
    error = norm.ppf(0.5 + _CONFIDENCE / 2) * standard_error(whole.auc, members, others)
    estimates = {"auc": Estimate(whole.auc, max(0.0, whole.auc - error), min(1.0, whole.auc + error))}
    for name in rates:
        estimates[name] = Estimate(values[name], *clopper_pearson(round(values[name] * members), members))
    return estimates | missing


def log_spaced(whole: Curve, points: int = POINTS) -> Curve:
    """Return at most so many points of a curve, log-spaced in the false positive rate, for axes that are logarithmic."""
    steps = np.flatnonzero(whole.fpr > 0)
    if not len(steps):
        return whole
    fpr = np.unique(np.append(np.geomspace(whole.fpr[steps[0]], 1.0, points - 1), 1.0))
    return Curve(fpr, np.array([whole.at(rate) for rate in fpr]))


def standard_error(area: float, members: int, others: int) -> float:
    """Return the standard error of an AUC from so many independent answers (Hanley and McNeil 1982, equation 2)."""
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (members - 1) * (first - area**2) + (others - 1) * (second - area**2)
    return math.sqrt(variance / (members * others))


def clopper_pearson(hits: int, trials: int, confidence: float = _CONFIDENCE) -> tuple[float, float]:
    """Return the exact interval of a probability, of so many hits in so many independent trials."""
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, hits, trials - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high


def _bootstrapped(
    values: dict[str, float], rates: dict[str, float], scores: Scores, inside: Members, rng: np.random.Generator
) -> dict[str, Estimate]:
    targets = len(scores)
    order = np.argsort(scores, axis=None)  # once: sorting what is sorted is quick
    ranked, member, owner = scores.ravel()[order], inside.ravel()[order], order // scores.shape[1]
    drawn: dict[str, list[float]] = {name: [] for name in values}
    for _ in range(_RESAMPLES):
        times = rng.multinomial(targets, np.full(targets, 1 / targets)).astype(np.float64)
        resampled = curve(ranked, member, times[owner])
        drawn["auc"].append(resampled.auc)
        for name, fpr in rates.items():
            drawn[name].append(resampled.at(fpr))
    tails = [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2]
    return {name: Estimate(value, *np.quantile(drawn[name], tails).tolist()) for name, value in values.items()}
