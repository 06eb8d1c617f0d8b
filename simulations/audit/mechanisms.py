"""The mechanisms of the project on canaries alone, and the scores of canaries in what they release.

``one_run_bound`` audits all that a run's config releases; the functions below it score the canaries
for one mechanism each.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.client.training.private import train_privately
from fedtransfer.client.training.statistics import released_sums, site_sums
from fedtransfer.client.training.trainer import Recipe
from fedtransfer.client.training.trainers import trainer
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import HeadSpec
from fedtransfer.common.privacy.closed_form import gram_matrix
from fedtransfer.common.privacy.guarantee import Guarantee, guarantee
from fedtransfer.common.seeds import generator
from fedtransfer.common.wire.sums import one_shot_sums
from fedtransfer.server.privacy.mechanism import SiteLevel
from fedtransfer.server.sites.cohort import draw_secretly
from fedtransfer.simulations.audit.canaries import Canaries, Scores
from fedtransfer.simulations.audit.one_run import guesses_for, lower_bound, right_guesses

Kernel = NDArray[np.floating[Any]]

_CANARIES = (2000, 4000)
_GUESSED = 0.9  # of the canaries, at most
_LEAST_PROVABLE = 5.0  # for fewer guesses a bound would hang on single ones
# With so small a rate, over clip and length, predictions stay what they are at first, and so do the
# directions of gradients.
_STILL = Recipe("sgd", learning_rate=1e-4, batch_size=1, epochs=1)


@dataclass(frozen=True)
class OneRun:
    """What an audit of one run found.

    Attributes:
        bound: lower bound of ε, at 95 % confidence.
        claimed: ε that the run promises at its δ; None where it promises nothing.
        most: the bound that all guesses right would give; where it is below the claim, no such
            audit can refute it.
        guesses: that were made.
        right: of them.
        canaries: there were.
    """

    bound: float
    claimed: float | None
    most: float
    guesses: int
    right: int
    canaries: int


def one_run_bound(config: RunConfig, seed: int) -> OneRun:
    """Audit all rounds of what a config asks for, on canaries in place of its data.

    Sampling, steps, noise, clip and δ are the config's; canaries are images of one site, or sites
    where sites are protected. Without differential privacy they go through the plain algorithm, for
    the first round of a linear head. Masks hide single answers and change nothing of what comes
    out.

    Args:
        config: of the run.
        seed: of all randomness.

    Raises:
        UserError: the noise is shared among sites, which is not audited; or it cannot be found, or
            the bound not adapt.
    """
    if config.noise == "shared":
        raise UserError(
            "noise shared: what several sites' whole-numbered noise adds up to is not audited; audit the run with --noise "
            "alone and the same --noise-multiplier"
        )
    promised = guarantee(config)
    claimed = promised.epsilon(promised.affordable) if promised else None
    count, guesses = _size(claimed, config.delta)
    rng = generator(seed, "audit", config.strategy, config.dp)
    canaries = replace(Canaries.draw(count, rng), length=100 * max(1.0, config.clip))
    right = right_guesses(_scores(config, promised, canaries, rng), canaries.inside, guesses)
    bound, most = (lower_bound(correct, guesses, count, config.delta) for correct in (right, guesses))
    return OneRun(bound, claimed, most, guesses, right, count)


def _size(claimed: float | None, delta: float) -> tuple[int, int]:
    """Return the numbers of canaries and guesses that can refute a claim, or the most if none can.

    Half of the guesses are "inside", so as many canaries must be inside. With guesses on 90 % of
    2,000 canaries this fails with a probability below 1e-5.
    """
    if claimed is None:
        return _CANARIES[0], int(_GUESSED * _CANARIES[0])
    for count in _CANARIES:
        most = int(_GUESSED * count)
        provable = lower_bound(most, most, count, delta)
        if (target := max(_LEAST_PROVABLE, claimed + 1)) < provable:
            return count, guesses_for(target, count, delta)
    return count, most


def _scores(config: RunConfig, promised: Guarantee | None, canaries: Canaries, rng: np.random.Generator) -> Scores:
    """Score canaries by all that a run of this config releases."""
    if promised is None:
        return of_plain_sums(config, canaries) if config.closed_form else of_plain_training(config, canaries, rng)
    if config.closed_form:
        return of_sums(config, canaries, rng)
    if config.dp == "site":
        return of_rounds(config, promised, canaries, rng)
    return of_steps(promised, promised.affordable, canaries, rng)


def of_steps(promised: Guarantee, rounds: int, canaries: Canaries, rng: np.random.Generator) -> Scores:
    """Score canaries, images of one site, by its heads; each round begins at zeros, as a server may."""
    return canaries.in_head(np.sum([private_kernel(canaries, promised, rng) for _ in range(rounds)], axis=0))


def private_kernel(canaries: Canaries, promised: Guarantee, rng: np.random.Generator) -> Kernel:
    """Train a head of zeros on the images of one site under differential privacy; return its kernel."""
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
    """Score canaries by the means of rounds that have them as sites, each over the bound of updates."""
    level, total = SiteLevel.from_config(config, promised), np.zeros_like(canaries.head[0], np.float64)
    updates = {f"{number:06}": update for number, update in enumerate(canaries.updates())}
    for _ in range(promised.affordable):
        names = draw_secretly(updates, config.fraction, rng) if config.secret_cohorts else updates
        cohort = [updates[name] for name in names]
        total += level.release(cohort, canaries.head, config.clip, rng).delta[0] / config.clip
    return canaries.in_sums(total)


def of_plain_training(config: RunConfig, canaries: Canaries, rng: np.random.Generator) -> Scores:
    """Score canaries by a head that one site trained on them without any noise."""
    recipe = Recipe.from_config(config)
    with trainer(HeadSpec(len(canaries.inside), canaries.classes), recipe) as t:
        return canaries.in_head(t.train(canaries.head, *canaries.images(), rng, recipe.epochs)[0])


def of_plain_sums(config: RunConfig, canaries: Canaries) -> Scores:
    """Score canaries by the sums of features by class that one site sends of them without any noise."""
    first, second = site_sums(one_shot_sums(config), *canaries.images(), canaries.classes)
    return canaries.in_sums(first.T if first.ndim == 2 else second[:-1])
