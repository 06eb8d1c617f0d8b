"""Membership inference on one federation: how well each attack's scores distinguish members.

An attack that is sure of a few members matters more than one that is a little better than chance on
all, so in addition to the AUC there are the true positive rates at false positive rates of 1 % and
0.1 % (Carlini et al. 2022, arXiv 2112.03570).

Intervals are of 95 %, by a bootstrap: over several targets it draws targets and images, since the
answers of one head hang together, and so do those about one image (Owen 2007, "The pigeonhole
bootstrap"); over a single one it draws images. The interval of a rate is at least that of Clopper
and Pearson 1934, since a bootstrap of no hits has no spread.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import roc_curve

from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.seeds import generator
from fedtransfer.simulations.audit import membership
from fedtransfer.simulations.audit.federation import Split
from fedtransfer.simulations.audit.findings import CurvePoint, Finding
from fedtransfer.simulations.audit.image_pool import ImagePool
from fedtransfer.simulations.audit.membership import ATTACKS, Members, Scores, Shadows, Target
from fedtransfer.simulations.audit.plan import AuditCase
from fedtransfer.simulations.scoring.estimate import FEWEST_FALSE_ALARMS, Estimate

RATES = {"tpr@1%": 0.01, "tpr@0.1%": 0.001}
POINTS = 80  # of a curve
_RESAMPLES = 200
_CONFIDENCE = 0.95


class Curve(NamedTuple):
    """A ROC curve: false and true positive rates, both from 0 up to 1."""

    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]

    @property
    def auc(self) -> float:
        """The area below."""
        return float(np.trapezoid(self.tpr, self.fpr))

    def at(self, fpr: float) -> float:
        """Return the true positive rate of the lowest threshold with at most this ``fpr``."""
        return float(self.tpr[np.searchsorted(self.fpr, fpr, "right") - 1])


def infer_members(
    case: AuditCase, pool: ImagePool, population: Split, shadows: int,
    progress: Callable[[int, int], None], head: Arrays | None = None,
) -> tuple[list[Finding], list[CurvePoint]]:  # fmt: skip
    """Attack a federation's heads; return findings and curves of every attack.

    ``shadows`` federations run on random halves of the pool, and each of their heads is attacked,
    with the others for its shadows. A given ``head`` is attacked in their place; then they have as
    large a share of the pool as it had. ``population`` are images that no head has seen.

    Raises:
        UserError: the federation cannot be repeated in memory, or there are too few shadows.
    """
    trained_on = np.concatenate([pool.inside[site] for site in sorted(pool.sites)])
    share = 0.5 if head is None else float(trained_on.mean())
    members = [
        membership.coins(case.config.seed, shadow, len(trained_on), share) for shadow in range(shadows)
    ]
    try:
        membership.check_enough(np.array(members), others=int(head is None))
    except ValueError as error:
        raise UserError(f"--shadows: {error}, such as {max(32, 2 * shadows)}") from None
    run = membership.run_shadows(
        case.config, pool.sites, population, len(pool.classes), shadows, progress, share=share
    )
    target, note = None, f"{shadows} heads, each the target in turn"
    if head is not None:
        target = Target.of(head, membership.pooled(pool.sites), population), trained_on
        note = f"the run's own head; {shadows} shadows"
    findings, curves = [], list[CurvePoint]()
    for name, measures, points in attacked(run, generator(case.config.seed, "bootstrap"), target):
        findings += [
            case.finding(name, key, estimate, note, RATES.get(key, 0.5)) for key, estimate in measures.items()
        ]
        names = case.strategy, case.protection, case.each, name
        curves += [CurvePoint(*names, *point) for point in zip(*points, strict=True)]
    return findings, curves


def attacked(
    shadows: Shadows, rng: np.random.Generator, target: tuple[Target, Members] | None = None
) -> Iterator[tuple[str, dict[str, Estimate], Curve]]:
    """Yield the name of each attack, its measures, and its ROC curve for logarithmic axes.

    Each federation is the target in turn, unless ``target`` is given: a head, and which images it
    was trained on (n,).
    """
    for name, attack in ATTACKS.items():
        if target:
            scores, inside = attack(target[0], shadows)[None], target[1][None]
        else:
            scores, inside = membership.leave_one_out(attack, shadows), shadows.inside
        yield name, measured(scores, inside, rng), log_spaced(curve(scores, inside))


def curve(scores: Scores, inside: Members) -> Curve:
    """Return the ROC curve of scores of any shape, higher for members."""
    return Curve(*roc_curve(inside.ravel(), scores.ravel(), drop_intermediate=False)[:2])


def measured(scores: Scores, inside: Members, rng: np.random.Generator) -> dict[str, Estimate]:
    """Return ``auc``, ``tpr@1%`` and ``tpr@0.1%`` of the scores of T targets (T, n).

    ``inside`` says which are members, (T, n); an estimate's ``n`` counts the others. ``rng`` draws
    targets and images for the bootstrap.
    """
    members, others = int(inside.sum()), int((~inside).sum())
    whole = curve(scores, inside)
    replicates = [(each.auc, *map(each.at, RATES.values())) for each in _resampled(scores, inside, rng)]
    lows, highs = np.quantile(replicates, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2], axis=0).tolist()
    estimates = {"auc": Estimate(whole.auc, lows[0], highs[0], others)}
    for (name, fpr), low, high in zip(RATES.items(), lows[1:], highs[1:], strict=True):
        if others * fpr < FEWEST_FALSE_ALARMS:
            estimates[name] = Estimate(math.nan, n=others)
            continue
        value = whole.at(fpr)
        exact = binomtest(round(value * members), members).proportion_ci(_CONFIDENCE, "exact")
        estimates[name] = Estimate(value, min(low, exact.low), max(high, exact.high), others)
    return estimates


def log_spaced(whole: Curve) -> Curve:
    """Return at most ``POINTS`` points of a curve, log-spaced in the false positive rate.

    Those of ``RATES`` are among them, so that the curve says there what is measured there.
    """
    least = whole.fpr[whole.fpr > 0][0]
    rates = [rate for rate in RATES.values() if rate > least]
    fpr = np.unique(np.concatenate([np.geomspace(least, 1.0, POINTS - 1 - len(rates)), rates, [1.0]]))
    return Curve(fpr, np.array([whole.at(rate) for rate in fpr]))


def _resampled(scores: Scores, inside: Members, rng: np.random.Generator) -> Iterator[Curve]:
    """Yield ROC curves of images drawn with replacement, and of targets where there are several."""
    targets, images = scores.shape
    order = np.argsort(-scores, axis=None)  # once for all of them, which is why curves are made here
    ranked, member = scores.ravel()[order], inside.ravel()[order]
    target, image = np.divmod(order, images)
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of answers with one score
    for _ in range(_RESAMPLES):
        times = _times(targets, rng)[target] * _times(images, rng)[image]
        right, answers = (np.append(0, np.cumsum(counts)[ends]) for counts in (times * member, times))
        yield Curve((answers - right) / (answers - right)[-1], right / right[-1])


def _times(units: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return how often each unit is drawn."""
    return np.bincount(rng.integers(units, size=units), minlength=units)
