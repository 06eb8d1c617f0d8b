"""Shadow federations: a config run many times on random halves of a pool of images, for membership inference.

Each image is in or out of each federation by its own fair coin (Carlini et al. 2022, arXiv 2112.03570), so a federation is
a target and a shadow of all others, and it is known which images it had. Image by image, what its head makes of an image is
one number, the logit-scaled confidence of the paper: log(p / (1 - p)), with p the probability of the image's true class.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from fedtransfer.client.training.trainer import Features, Labels
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.seeds import generator
from fedtransfer.simulations.audit.federation import Split, federate

Confidences = NDArray[np.float64]
Members = NDArray[np.bool_]


@dataclass(frozen=True)
class Shadows:
    """What N federations make of the n images of a pool, and of m images that none of them had.

    Attributes:
        inside: which images each had, (N, n).
        images: confidences in the pool's images, (N, n).
        population: confidences in the others, (N, m).
    """

    inside: Members
    images: Confidences
    population: Confidences

    def without(self, number: int) -> "Shadows":
        """Return all but one of them."""
        others = np.arange(len(self.inside)) != number
        return Shadows(self.inside[others], self.images[others], self.population[others])


def run_shadows(
    config: RunConfig,
    pool: Mapping[str, Split],
    population: Split,
    classes: int,
    number: int,
    progress: Callable[[int, int], None] | None = None,
    *,
    share: float = 0.5,
    rng: np.random.Generator | None = None,
) -> Shadows:
    """Run a number of federations.

    No two share a random stream: coins and draws are keyed by seed and number, and noise is nobody's to repeat.

    Args:
        config: what each runs (``fedtransfer.simulations.audit.federation``).
        pool: site → images that it may have. Columns of the result are in the order of ``pooled``.
        population: images that none has, from where the pool's come from.
        classes: C.
        number: N.
        progress: called with the number done.
        share: of the images that each has, on average.
        rng: draws noise, as in ``federate``.

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
    """Return log(p / (1 - p)) of the probability p of each image's class, (n,).

    That is the class' score less the log-sum-exp of all others, so it stays exact where p rounds to 0 or 1.

    Args:
        head: kernel (d, C) and bias (C,).
        x, y: features (n, d) and class numbers (n,).
    """
    scores, rows = x.astype(np.float64) @ head[0] + head[1], np.arange(len(y))
    true = scores[rows, y]
    scores[rows, y] = -np.inf
    return true - logsumexp(scores, axis=1)
