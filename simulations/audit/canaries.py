"""White-box canaries for a linear head, and their scores in all that a config releases of them.

Each canary has its own direction, so all can be in one run. A gradient with one entry that is not
zero, "Dirac canary", is the worst case of clipping and noise (Nasr et al. 2023, arXiv 2302.07956).
For a head with kernel (d, C), d at least m, canary j has features along axis j alone and a class
y_j: the gradient of its loss, and its share in any sum of features, are in row j, where no other
canary's are.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.client.training.private import train_privately
from fedtransfer.client.training.statistics import released_sums, site_sums
from fedtransfer.client.training.trainer import Recipe
from fedtransfer.client.training.trainers import trainer
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays, HeadSpec
from fedtransfer.common.privacy.closed_form import gram_matrix
from fedtransfer.common.privacy.guarantee import Guarantee
from fedtransfer.common.wire.sums import one_shot_sums
from fedtransfer.server.privacy.mechanism import SiteLevel
from fedtransfer.server.sites.cohort import draw_secretly

Scores = NDArray[np.float64]
Kernel = NDArray[np.floating[Any]]

# With so small a rate, over clip and length, predictions stay what they are at first, and so do the
# directions of gradients.
_STILL = Recipe("sgd", learning_rate=1e-4, batch_size=1, epochs=1)


@dataclass(frozen=True)
class Canaries:
    """Canaries, some of them in the data."""

    inside: NDArray[np.bool_]  # (m,), which are: each by a fair coin
    classes: int = 2  # C
    # Norm of a canary's features, or of its site's update: beyond the bound, to need clipping; far
    # beyond 1, so that next to nothing of its gradient is in the bias, which all images share.
    length: float = 100.0

    @classmethod
    def draw(cls, count: int, rng: np.random.Generator, length: float = 100.0) -> "Canaries":
        """Toss the coins of ``count`` canaries."""
        return cls(rng.random(count) < 0.5, length=length)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The canaries' classes (m,)."""
        return np.arange(len(self.inside)) % self.classes

    @property
    def head(self) -> Arrays:
        """A new head of zeros: kernel (m, C) and bias (C,)."""
        return np.zeros((len(self.inside), self.classes), np.float32), np.zeros(self.classes, np.float32)

    def images(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the images inside: features (n, m) and class numbers (n,)."""
        rows = np.flatnonzero(self.inside)
        x = np.zeros((len(rows), len(self.inside)), np.float32)
        x[np.arange(len(rows)), rows] = self.length
        return x, self.labels[rows]

    def updates(self) -> list[Arrays]:
        """Return the updates of the sites inside, each with one entry that is not zero."""
        updates: list[Arrays] = []
        for row in np.flatnonzero(self.inside):
            kernel, bias = self.head
            kernel[row, self.labels[row]] = self.length
            updates.append((kernel, bias))
        return updates

    def in_sums(self, released: Kernel) -> Scores:
        """Score canaries by what a sum (m, C) of updates, or of class' features, has along each."""
        return released[np.arange(len(self.inside)), self.labels].astype(np.float64)

    def in_gram(self, gram: Kernel, by_class: Kernel, clip: float) -> Scores:
        """Score canaries by the Gram matrix (m, m) and class sums (m, C) of clipped features."""
        return clip**2 * np.diag(gram).astype(np.float64) + clip * self.in_sums(by_class)

    def in_head(self, kernel: Kernel) -> Scores:
        """Score each canary by how far a kernel (m, C) went from 0 down the gradient of its loss.

        That gradient is (1/C - y) xᵀ.
        """
        return self.in_sums(kernel) - kernel.mean(1)


def of_run(
    config: RunConfig, promised: Guarantee | None, canaries: Canaries, rng: np.random.Generator
) -> Scores:
    """Score canaries by all that a run of this config releases."""
    if promised is None:
        return (
            _of_plain_sums(config, canaries)
            if config.closed_form
            else _of_plain_training(config, canaries, rng)
        )
    if config.closed_form:
        return of_sums(config, canaries, rng)
    if config.dp == "site":
        return of_rounds(config, promised, canaries, rng)
    return of_steps(promised, promised.affordable, canaries, rng)


def of_steps(promised: Guarantee, rounds: int, canaries: Canaries, rng: np.random.Generator) -> Scores:
    """Score canaries, images of a site, by its heads; rounds begin at zeros, as a server may."""
    return canaries.in_head(np.sum([private_kernel(canaries, promised, rng) for _ in range(rounds)], axis=0))


def private_kernel(canaries: Canaries, promised: Guarantee, rng: np.random.Generator) -> Kernel:
    """Train a head of zeros on a site's images under differential privacy; return its kernel."""
    x, y = canaries.images()
    rate = 1 / (promised.clip * canaries.length)
    return train_privately(canaries.head, x, y, _STILL, promised, rng, rate=rate)[0]


def of_sums(config: RunConfig, canaries: Canaries, rng: np.random.Generator) -> Scores:
    """Score canaries by the noisy sums of features of one site, whose images they are."""
    *gram, by_class = released_sums(*canaries.images(), canaries.classes, config, rng)
    if not gram:
        return canaries.in_sums(by_class.T)
    return canaries.in_gram(gram_matrix(gram[0].astype(np.float64)), by_class, config.clip)


def of_rounds(config: RunConfig, promised: Guarantee, canaries: Canaries, rng: np.random.Generator) -> Scores:
    """Score canaries, each a site with an update over the bound, by the means of rounds."""
    level, total = SiteLevel.from_config(config, promised), np.zeros_like(canaries.head[0], np.float64)
    updates = {f"{number:06}": update for number, update in enumerate(canaries.updates())}
    for _ in range(promised.affordable):
        names = draw_secretly(updates, config.fraction, rng) if config.secret_cohorts else updates
        cohort = [updates[name] for name in names]
        total += level.release(cohort, canaries.head, config.clip, rng).delta[0] / config.clip
    return canaries.in_sums(total)


def _of_plain_training(config: RunConfig, canaries: Canaries, rng: np.random.Generator) -> Scores:
    """Score canaries by a head that one site trained on them without any noise."""
    recipe = Recipe.from_config(config)
    with trainer(HeadSpec(len(canaries.inside), canaries.classes), recipe) as t:
        return canaries.in_head(t.train(canaries.head, *canaries.images(), rng, recipe.epochs)[0])


def _of_plain_sums(config: RunConfig, canaries: Canaries) -> Scores:
    """Score canaries by the class sums of features that a site sends of them without any noise."""
    first, second = site_sums(one_shot_sums(config), *canaries.images(), canaries.classes)
    return canaries.in_sums(first.T if first.ndim == 2 else second[:-1])
