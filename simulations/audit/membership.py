"""Membership inference: was an image among those that a head was trained on?

Each attack gives a target's answers for n images as scores (n,), higher for images that it takes for members, from the
confidences (``fedtransfer.simulations.audit.shadows``) that the target and its shadows have in them. They are pure functions; who attacks knows
the features and class of each image, the target's head, and a pool of images to train shadows on, but not who is in.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit
from scipy.stats import norm

from fedtransfer.common.head.head import Arrays
from fedtransfer.simulations.audit.federation import Split
from fedtransfer.simulations.audit.shadows import Confidences, Members, Shadows, confidences

Scores = NDArray[np.float64]

FIXED_BELOW = 64  # shadows: with fewer, an image's own variance is too rough (section VI-C of LiRA)
# Of RMIA: by how much the likelihood ratio of an image must exceed that of another. The paper takes 2, for networks that are
# trained whole; class scores of a head in closed form are so flat that no ratio reaches that, and 1 does better on all heads.
GAMMA = 1.0
LEAST = 2  # shadows that have an image, and that lack it
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Target:
    """The head that is attacked, by its confidences.

    Attributes:
        images: in the pool's images, (n,).
        population: in the others, (m,).
    """

    images: Confidences
    population: Confidences

    @classmethod
    def of(cls, head: Arrays, images: Split, population: Split) -> "Target":
        """Return a head, such as that of a run, as a target; images in the order of the shadows' columns."""
        return cls(confidences(head, *images), confidences(head, *population))


Attack = Callable[[Target, Shadows], Scores]


def loss_threshold(target: Target, shadows: Shadows) -> Scores:
    """Yeom et al. 2018 (arXiv 1709.01604): an image of low loss is a member. It takes no shadows."""
    return log_expit(target.images)


def lira_online(target: Target, shadows: Shadows) -> Scores:
    """LiRA (Carlini et al. 2022, arXiv 2112.03570), Algorithm 1: log of the likelihood ratio of an image in and out.

    Confidences of shadows with the image, and of those without it, are each taken for normal. With ``FIXED_BELOW`` shadows or
    more an image has variances of its own, with fewer all images share both.
    """
    inside, outside = _normal(shadows, shadows.inside), _normal(shadows, ~shadows.inside)
    return norm.logpdf(target.images, *inside) - norm.logpdf(target.images, *outside)


def lira_offline(target: Target, shadows: Shadows) -> Scores:
    """LiRA without shadows that have the image: how far the confidence is above that of those without it, in deviations.

    The paper's 1 - Pr[Z > confidence] is the normal distribution function of that, and has the same order.
    """
    mean, deviation = _normal(shadows, ~shadows.inside)
    return (target.images - mean) / deviation


def rmia(target: Target, shadows: Shadows) -> Scores:
    """RMIA (Zarifzadeh et al. 2024, arXiv 2312.03262), online: the share of the population that an image stands out from.

    With p(x | target) the probability of the image's class and p(x) its mean over shadows, half of them with the image, it
    stands out from z where p(x | target) / p(x) is at least γ times p(z | target) / p(z).
    """
    probabilities = np.exp(log_expit(shadows.images))
    means = [_mean(probabilities, who) for who in (shadows.inside, ~shadows.inside)]
    ratio = log_expit(target.images) - _log((means[0] + means[1]) / 2)
    others = log_expit(target.population) - _log(np.exp(log_expit(shadows.population)).mean(0))
    return np.searchsorted(np.sort(others), ratio - np.log(GAMMA), "right") / len(others)


ATTACKS: dict[str, Attack] = {
    "loss threshold": loss_threshold,
    "LiRA offline": lira_offline,
    "LiRA online": lira_online,
    "RMIA": rmia,
}


def leave_one_out(attack: Attack, shadows: Shadows) -> Scores:
    """Return the scores (N, n) of each federation in turn as the target, with all others for its shadows.

    Raises:
        ValueError: there are too few shadows.
    """
    check_enough(shadows.inside, others=1)
    rows = range(len(shadows.inside))
    return np.stack([attack(Target(shadows.images[k], shadows.population[k]), shadows.without(k)) for k in rows])


def check_enough(inside: Members, others: int = 0) -> None:
    """Check that every image is in some shadows, and out of some; ``others`` of either may be left out.

    Raises:
        ValueError: one is not.
    """
    least = int(np.minimum(inside.sum(0), (~inside).sum(0)).min(initial=len(inside)))
    if least < LEAST + others:
        raise ValueError(
            f"{len(inside)} shadows are too few: an image is in, or out of, {least} of them only, and {LEAST + others} are "
            "needed; train more"
        )


def _normal(shadows: Shadows, who: Members) -> tuple[Scores, Scores]:
    """Return mean and deviation (n,) of the confidences of shadows ``who``, (N, n)."""
    mean = _mean(shadows.images, who)
    squares = np.square(shadows.images - mean)
    if len(who) >= FIXED_BELOW:
        variance = np.sum(squares, axis=0, where=who) / (who.sum(0) - 1)
    else:
        variance = np.full(len(mean), np.sum(squares, where=who) / (who.sum() - len(mean)))
    return mean, np.sqrt(np.maximum(variance, _TINY))


def _mean(values: NDArray[np.float64], who: Members) -> Scores:
    return np.sum(values, axis=0, where=who) / who.sum(0)


def _log(values: Scores) -> Scores:
    return np.log(np.maximum(values, _TINY))
