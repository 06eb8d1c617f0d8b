"""Membership inference: was an image among those that a head was trained on?

Shadow federations repeat a config on random halves of a pool of images. Each image is in or out of
each by its own fair coin (LiRA: Carlini et al. 2022, arXiv 2112.03570), so a federation is a target
and a shadow of all others, and it is known which images it had. What a head makes of an image is
one number, the logit-scaled confidence of the paper: log(p / (1 - p)), with p the probability of
the image's true class.

Each attack gives a target's answers for n images as scores (n,), higher for images that it takes
for members, from the confidences that the target and its shadows have in them. Who attacks knows
the features and class of each image, the target's head, and a pool of images to train shadows on,
but not who is in.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, logsumexp
from scipy.stats import norm

from fedtransfer.client.training.trainer import Features, Labels
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.seeds import generator
from fedtransfer.simulations.audit.federation import Split, federate

Confidences = NDArray[np.float64]
Members = NDArray[np.bool_]
Scores = NDArray[np.float64]

FIXED_BELOW = 64  # shadows: with fewer, an image's own variance is too rough (section VI-C of LiRA)
# Of RMIA: by how much an image's likelihood ratio must exceed another's. The paper takes 2, for
# whole networks; a closed-form head's scores are too flat for that, and 1 does better on all heads.
GAMMA = 1.0
LEAST = 2  # shadows that have an image, and that lack it
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Shadows:
    """What N federations make of the n images of a pool, and of m images that none of them had."""

    inside: Members  # which images each had, (N, n)
    images: Confidences  # confidences in the pool's images, (N, n)
    population: Confidences  # confidences in the others, (N, m)

    def without(self, number: int) -> "Shadows":
        """Return all but one of them."""
        others = np.arange(len(self.inside)) != number
        return Shadows(self.inside[others], self.images[others], self.population[others])


def run_shadows(
    config: RunConfig, pool: Mapping[str, Split], population: Split, classes: int, number: int,
    progress: Callable[[int, int], None] | None = None, *, share: float = 0.5,
    rng: np.random.Generator | None = None,
) -> Shadows:  # fmt: skip
    """Run a number of federations, each with a ``share`` of a pool's images, on average.

    No two share a random stream: seed and number are the key of coins and draws, and noise is
    nobody's to repeat. The pool has the images of each site; columns of the result are in the order
    of ``pooled``. None has images of the ``population``, from where the pool's come from.
    ``progress`` is called with the numbers done and to do.

    Raises:
        UserError: such a run cannot be repeated in memory.
    """
    x, y = pooled(pool)
    inside = np.array([coins(config.seed, shadow, len(y), share) for shadow in range(number)])
    images, others = np.empty((number, len(y))), np.empty((number, len(population[1])))
    for shadow, members_of in enumerate(inside):
        head = federate(config, members(pool, members_of), classes, shadow, rng=rng)
        images[shadow], others[shadow] = confidences(head, x, y), confidences(head, *population)
        if progress:
            progress(shadow + 1, number)
    return Shadows(inside, images, others)


def pooled(pool: Mapping[str, Split]) -> Split:
    """Return all images of a pool, site by site in name order."""
    splits = [pool[name] for name in sorted(pool)]
    return np.concatenate([x for x, _ in splits]), np.concatenate([y for _, y in splits])


def members(pool: Mapping[str, Split], inside: Members) -> dict[str, Split]:
    """Return site → those of its images that are inside, (n,) in the order of ``pooled``."""
    names = sorted(pool)
    parts = np.split(inside, np.cumsum([len(pool[name][1]) for name in names])[:-1])
    return {name: (pool[name][0][part], pool[name][1][part]) for name, part in zip(names, parts, strict=True)}


def coins(seed: int, shadow: int, images: int, share: float = 0.5) -> Members:
    """Toss the coins of a shadow, one an image, (n,); each is true with a chance of ``share``."""
    return generator(seed, "inside a shadow", shadow).random(images) < share


def confidences(head: Arrays, x: Features, y: Labels) -> Confidences:
    """Return log(p / (1 - p)), (n,), of the probability p of each class y (n,) of images x (n, d).

    It is the class' score less the log-sum-exp of all others: exact even where p rounds to 0 or 1.
    """
    scores, rows = x.astype(np.float64) @ head[0] + head[1], np.arange(len(y))
    true = scores[rows, y]
    scores[rows, y] = -np.inf
    return true - logsumexp(scores, axis=1)


@dataclass(frozen=True)
class Target:
    """The head under attack, by its confidences in the pool's images (n,) and in others (m,)."""

    images: Confidences
    population: Confidences

    @classmethod
    def of(cls, head: Arrays, images: Split, population: Split) -> "Target":
        """Return a head, such as a run's, as a target; images in the order of shadows' columns."""
        return cls(confidences(head, *images), confidences(head, *population))


Attack = Callable[[Target, Shadows], Scores]


def loss_threshold(target: Target, shadows: Shadows) -> Scores:
    """Yeom et al. 2018 (arXiv 1709.01604): an image of low loss is a member. It takes no shadow."""
    return log_expit(target.images)


def lira_online(target: Target, shadows: Shadows) -> Scores:
    """LiRA, Algorithm 1: log of the likelihood ratio of an image in and out.

    Confidences of shadows with the image, and of those without it, are each taken for normal. From
    ``FIXED_BELOW`` shadows on an image has variances of its own; with fewer all images share both.
    """
    inside, outside = _normal(shadows, shadows.inside), _normal(shadows, ~shadows.inside)
    return norm.logpdf(target.images, *inside) - norm.logpdf(target.images, *outside)


def lira_offline(target: Target, shadows: Shadows) -> Scores:
    """LiRA by shadows without the image alone: deviations of the confidence above theirs.

    The paper's 1 - Pr[Z > confidence] is the normal distribution function of that: the same order.
    """
    mean, deviation = _normal(shadows, ~shadows.inside)
    return (target.images - mean) / deviation


def rmia(target: Target, shadows: Shadows) -> Scores:
    """RMIA (Zarifzadeh et al. 2024, arXiv 2312.03262), online: the share of z it stands out from.

    With p(x | target) the probability of the image's class and p(x) its mean over shadows, half of
    them with the image, it stands out from an image z of the population where p(x | target) / p(x)
    is at least γ p(z | target) / p(z).
    """
    probabilities = np.exp(log_expit(shadows.images))
    means = [_mean(probabilities, who) for who in (shadows.inside, ~shadows.inside)]
    ratio = log_expit(target.images) - _log((means[0] + means[1]) / 2)
    others = log_expit(target.population) - _log(np.exp(log_expit(shadows.population)).mean(0))
    return np.searchsorted(np.sort(others), ratio - np.log(GAMMA), "right") / len(others)


ATTACKS: dict[str, Attack] = {
    "loss threshold": loss_threshold, "LiRA offline": lira_offline, "LiRA online": lira_online, "RMIA": rmia,
}  # fmt: skip


def leave_one_out(attack: Attack, shadows: Shadows) -> Scores:
    """Return scores (N, n) of each federation as the target, with all others for its shadows."""
    check_enough(shadows.inside, others=1)
    rows = range(len(shadows.inside))
    return np.stack(
        [attack(Target(shadows.images[k], shadows.population[k]), shadows.without(k)) for k in rows]
    )


def check_enough(inside: Members, others: int = 0) -> None:
    """Check that every image is in and out of enough shadows, even if ``others`` are left out.

    Raises:
        ValueError: one is not.
    """
    least = int(np.minimum(inside.sum(0), (~inside).sum(0)).min(initial=len(inside)))
    if least < LEAST + others:
        raise ValueError(
            f"{len(inside)} shadows are too few: an image is in, or out of, {least} of them only, "
            f"and {LEAST + others} are needed; train more"
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
