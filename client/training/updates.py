"""What a site's training in a round comes to: the head it leads to, and how that is told."""

import numpy as np
from numpy.typing import NDArray

from fedtransfer.client.training.private import clipped_gradient_sum, train_privately
from fedtransfer.client.training.trainer import Features, Labels, Recipe
from fedtransfer.client.training.trainers import trainer
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays, HeadSpec
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.common.seeds import generator
from fedtransfer.common.wire.protocol import CLASS_WEIGHTS, Task


def trained(
    task: Task, x: Features, y: Labels, spec: HeadSpec, config: RunConfig, *, validation: tuple[Features, Labels] | None = None,
    correction: Arrays | None = None,
) -> Arrays:  # fmt: skip
    """Return the head that training on a site's images leads to, without differential privacy of images.

    Args:
        task: the head to begin at, and what keys the draws of batches: round and site.
        x, y: features (n, d) and class numbers (n,).
        spec: what the head looks like.
        config: the recipe, and the seed of the draws.
        validation: features and class numbers that epochs are chosen by, with ``config.patience``.
        correction: SCAFFOLD's.
    """
    recipe, [weights] = Recipe.from_config(config), task.extra.get(CLASS_WEIGHTS, (None,))
    with trainer(spec, recipe) as t:
        return t.train(
            task.head, x, y, generator(config.seed, "local training", task.round, task.site), recipe.epochs,
            recipe.patience, validation, rate=task.rate, correction=correction, class_weights=weights,
        )  # fmt: skip


def private_update(task: Task, x: Features, y: Labels, config: RunConfig, rng: np.random.Generator) -> Arrays:
    """Return the change of the head by noisy steps; with shared noise by one without any, of which only a sum over sites is
    private, once shares of noise are on it.

    That one is -rate · Σ / batch size, in float64, and an image changes it by at most rate · clip / batch size.

    Args:
        task: the head to begin at.
        x, y: features (n, d) and class numbers (n,).
        config: the recipe, and what is promised.
        rng: draws batches and noise; a secret one (``fedtransfer.common.privacy.randomness``) outside tests.
    """
    recipe, promised = Recipe.from_config(config), guarantee(config)
    assert promised
    if config.noise == "shared":
        step = -recipe.learning_rate * task.rate / recipe.batch_size
        return tuple(step * array for array in clipped_gradient_sum(task.head, x, y, recipe, promised, rng))
    return weighted_change(task.head, train_privately(task.head, x, y, recipe, promised, rng, rate=task.rate))


def weighted_change(before: Arrays, after: Arrays, weight: int = 1) -> tuple[NDArray[np.float32], ...]:
    """Return weight · (after - before), taken in float64."""
    return tuple(
        (weight * (new.astype(np.float64) - old)).astype(np.float32) for new, old in zip(after, before, strict=True)
    )
