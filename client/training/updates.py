"""The result of one round of local training, and its message."""

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


def fine_tune(
    task: Task, x: Features, y: Labels, spec: HeadSpec, config: RunConfig, *, validation: tuple[Features, Labels] | None = None,
    correction: Arrays | None = None,
) -> Arrays:  # fmt: skip
    """Return the head after training on a site's images, without differential privacy of images.

    Args:
        task: the head to begin with, and the round and site that key the draws of batches.
        x, y: features (n, d) and class numbers (n,).
        spec: shape of the head.
        config: the recipe, and the seed of the draws.
        validation: features and class numbers for early stopping, with ``config.patience``.
        correction: SCAFFOLD's correction, shaped as the head.
    """
    recipe, [weights] = Recipe.from_config(config), task.extra.get(CLASS_WEIGHTS, (None,))
    with trainer(spec, recipe) as t:
        return t.train(
            task.head, x, y, generator(config.seed, "local training", task.round, task.site), recipe.epochs,
            recipe.patience, validation, rate=task.rate, correction=correction, class_weights=weights,
        )  # fmt: skip


def private_update(task: Task, x: Features, y: Labels, config: RunConfig, rng: np.random.Generator) -> Arrays:
    """Return the change of the head after a round of DP-SGD.

    With shared noise it is the change after one step without noise: -rate · Σ / batch size, in
    float64. An image changes it by at most rate · clip / batch size. It is not private itself: only
    the sum over sites is, after each site has added its share of noise.

    Args:
        task: the head to begin with.
        x, y: features (n, d) and class numbers (n,).
        config: the recipe, and the privacy guarantee.
        rng: draws batches and noise; outside tests a secret one
            (``fedtransfer.common.privacy.randomness``).
    """
    recipe, promised = Recipe.from_config(config), guarantee(config)
    assert promised
    if config.noise == "shared":
        step = -recipe.learning_rate * task.rate / recipe.batch_size
        return tuple(step * array for array in clipped_gradient_sum(task.head, x, y, recipe, promised, rng))
    return weighted_change(task.head, train_privately(task.head, x, y, recipe, promised, rng, rate=task.rate))


def weighted_change(before: Arrays, after: Arrays, weight: int = 1) -> tuple[NDArray[np.float32], ...]:
    """Return weight · (after - before), computed in float64 and cast to float32."""
    return tuple(
        (weight * (new.astype(np.float64) - old)).astype(np.float32) for new, old in zip(after, before, strict=True)
    )
