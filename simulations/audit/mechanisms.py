"""The mechanisms of the project, each on canaries alone: what it is asked for by its ε, and how what it releases is read."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.private_trainer import train_privately
from client.statistics import released_sums
from client.trainer import Recipe
from common.config import RunConfig
from common.privacy.closed_form import gram_matrix
from common.privacy.guarantee import Guarantee, guarantee
from server.privacy import SiteLevel
from simulations.audit.canaries import Canaries, Scores

Kernel = NDArray[np.floating[Any]]
Mechanism = Callable[[float, Canaries, np.random.Generator], Scores]

DELTA, CLIP = 1e-5, 1.0
STEPS, RATE = 100, 0.25  # of DP-SGD; no image misses all of them
SITES = 10_000  # more than there are canaries: the others change nothing


def dp_sgd(claim: float, canaries: Canaries, rng: np.random.Generator, *, counted: int = STEPS) -> Scores:
    """Score canaries by the head of one site, whose images they are; of its steps so many are accounted for."""
    promised = replace(_promised_of_steps(claim, counted, RATE), releases=STEPS)
    return canaries.in_head(_trained(canaries, promised, rng))


def dp_sgd_singly(claim: float, canaries: Canaries, rng: np.random.Generator) -> Scores:
    """Score each canary by the head of a site that has no other image, and takes one step with all that it has."""
    promised = _promised_of_steps(claim, 1, 1.0)
    return _singly(canaries, lambda canary: _trained(canary, promised, rng), Canaries.in_head)


def dp_fedncm(claim: float, canaries: Canaries, rng: np.random.Generator) -> Scores:
    """Score canaries by the noisy sums of features of one site, whose images they are."""
    [by_class] = _sums("fedncm", claim, canaries, rng)
    return canaries.in_sums(by_class.T)


def dp_fed3r(claim: float, canaries: Canaries, rng: np.random.Generator) -> Scores:
    """Score canaries by the noisy Gram matrix and sums of features of one site, whose images they are."""
    vector, by_class = _sums("fed3r", claim, canaries, rng)
    return canaries.in_gram(gram_matrix(vector.astype(np.float64)), by_class, CLIP)


def site_level(claim: float, canaries: Canaries, rng: np.random.Generator) -> Scores:
    """Score canaries by the mean of a round that has them as sites."""
    return canaries.in_sums(_round(claim, canaries, rng))


def site_level_singly(claim: float, canaries: Canaries, rng: np.random.Generator) -> Scores:
    """Score each canary by the mean of a round of its own, to which no other site comes."""
    return _singly(canaries, lambda canary: _round(claim, canary, rng), Canaries.in_sums)


def _promised_of_steps(claim: float, steps: int, rate: float) -> Guarantee:
    return _promised(_config(claim, dp="image", weighting="uniform", image_rate=rate, local_steps=steps))


def _trained(canaries: Canaries, promised: Guarantee, rng: np.random.Generator) -> Kernel:
    # With so small a rate predictions stay what they are at first, and so do the directions of gradients.
    recipe = Recipe("sgd", learning_rate=1e-6, batch_size=1, epochs=1)
    return train_privately(canaries.head, *canaries.images(), recipe, promised, rng)[0]


def _sums(strategy: str, claim: float, canaries: Canaries, rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
    config = _config(claim, dp="image", strategy=strategy)
    return released_sums(*canaries.images(), canaries.classes, config, rng)


def _round(claim: float, canaries: Canaries, rng: np.random.Generator) -> Kernel:
    config = _config(claim, dp="site", weighting="uniform", sites=SITES)
    level = SiteLevel.of(config, _promised(config))
    return level.release(canaries.updates(), canaries.head, CLIP, rng).delta[0]


def _singly(
    canaries: Canaries, released: Callable[[Canaries], Kernel], scored: Callable[[Canaries, Kernel], Scores]
) -> Scores:
    """Score each canary by a release of its own; one without any noise in it tells that the canary is not there."""
    kernels = [(canary, released(canary)) for canary in canaries.singly()]
    return np.array([scored(canary, kernel)[0] if kernel.any() else -np.inf for canary, kernel in kernels])


def _config(claim: float, **settings: Any) -> RunConfig:
    return RunConfig(epsilon=claim, delta=DELTA, clip=CLIP, rounds=1, classes="declared", class_names="a,b", **settings)


def _promised(config: RunConfig) -> Guarantee:
    promised = guarantee(config)
    assert promised
    return promised
