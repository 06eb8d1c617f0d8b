"""Personal heads: a site fits the global head to its own images at the end of a run.

There are three, next to the global one. *Local*: trained on this site's images alone, from the
run's initial head. *Fine-tuned*: the global head, trained further on this site's images. *Mixed*:
a · global + (1 - a) · local, with the a in {0, 0.1, …, 1} of the lowest loss on the site's
validation images. This is the interpolation of APFL (Deng, Kamani and Mahdavi 2020, arXiv
2003.13461), between finished heads. Without validation images a is 1, the global head.

FedAvg with local fine-tuning helps sites on average and harms some (Motley, Wu et al. 2022, arXiv
2206.09262). So all four heads are scored on the site's own test images.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedtransfer.client.training.trainer import Features, Labels, Recipe, Trainer
from fedtransfer.client.training.trainers import trainer
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays, HeadSpec, initial_head, mix
from fedtransfer.common.head.metrics import cross_entropy
from fedtransfer.common.seeds import generator
from fedtransfer.common.wire.protocol import PERSONAL_HEADS

SHARES = tuple(k / 10 for k in range(10, -1, -1))  # of the global head; the largest first: it wins ties
Split = tuple[Features, Labels]


@dataclass(frozen=True)
class PersonalHeads:
    """A site's heads and how they do, in the order of ``common.wire.protocol.PERSONAL_HEADS``."""

    heads: Mapping[str, Arrays]
    losses: Mapping[str, float]  # mean cross-entropy on the site's validation images; 0 without any
    correct: NDArray[np.int64]  # (4,) images of the site's test split that each gives to their class
    share: float  # a, of the global head in the mixed one

    @property
    def best(self) -> str:
        """The kind with the lowest validation loss; the global one without validation images."""
        return min(PERSONAL_HEADS, key=self.losses.__getitem__)


def make_personal(
    spec: HeadSpec, config: RunConfig, head: Arrays, data: Mapping[str, Split], site: str
) -> PersonalHeads:
    """Make a site's personal heads of the global ``head``, and score them.

    Local training takes as many epochs as a site trains in the federation; fine-tuning takes
    ``config.adaptation_epochs``. The name of the ``site`` keys the random draws.
    """
    train, validation, test = data["train"], data["validation"], data["test"]
    recipe = adaptation_recipe(config)
    with trainer(spec, recipe) as t:
        rng = generator(config.seed, "fine-tuning", site)
        tuned = t.train(head, *train, rng, config.adaptation_epochs, recipe.patience, validation)
    with trainer(spec, Recipe.plain(config)) as t:
        local = train_alone(t, config, initial_head(spec, config.seed), train, validation, site)

        def loss(candidate: Arrays) -> float:
            if not len(validation[1]):
                return 0.0
            mean = cross_entropy(t.predict(candidate, validation[0]), validation[1]) / len(validation[1])
            return mean if np.isfinite(mean) else float("inf")  # a head that overflowed is never the best

        share = min(SHARES, key=lambda a: loss(mix(local, head, a)))
        heads = dict(zip(PERSONAL_HEADS, (head, local, tuned, mix(local, head, share)), strict=True))
        correct = [int((t.predict(h, test[0]).argmax(1) == test[1]).sum()) for h in heads.values()]
        return PersonalHeads(
            heads, {k: loss(h) for k, h in heads.items()}, np.array(correct, np.int64), share
        )


def train_alone(
    t: Trainer, config: RunConfig, initial: Arrays, train: Split, validation: Split, name: str
) -> Arrays:
    """Train for as many epochs as the federation does over all rounds, on these images only.

    Return the head of the epoch with the lowest validation loss, or the last if there are no
    validation images.
    """
    epochs = config.rounds * config.local_epochs
    return t.train(initial, *train, generator(config.seed, "baseline", name), epochs, epochs, validation)


def adaptation_recipe(config: RunConfig) -> Recipe:
    """Return how a site adapts the global head: as it trains by itself, at the full learning rate.

    A head that was trained to be adapted by gradient steps of a certain size (Per-FedAvg, arXiv
    2002.07948) is adapted by such steps: SGD at ``config.inner_rate``.
    """
    recipe = Recipe.plain(config)
    if "inner_rate" in config.method.options:
        return replace(recipe, optimizer="sgd", learning_rate=config.inner_rate)
    return recipe
