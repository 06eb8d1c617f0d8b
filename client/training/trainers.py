"""Trainers to borrow, one for each kind of head and recipe, and a round's training with one."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import lru_cache, partial

from fedtransfer.client.training.linear import LinearTrainer, is_linear
from fedtransfer.client.training.trainer import Features, Labels, Recipe, Trainer
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays, HeadSpec
from fedtransfer.common.seeds import generator
from fedtransfer.common.wire.protocol import CLASS_WEIGHTS, Task


class _Pool:
    """Trainers of one kind, one for each concurrent user, built once in a process."""

    def __init__(self, spec: HeadSpec, recipe: Recipe) -> None:
        build = LinearTrainer if is_linear(spec, recipe.optimizer) else _keras_trainer
        self._build: Callable[[], Trainer] = partial(build, spec, recipe)
        self._free: list[Trainer] = []
        self._lock = threading.Lock()

    @contextmanager
    def take(self) -> Iterator[Trainer]:
        with self._lock:  # also held while one is built: Keras' name scopes are not for several threads
            borrowed = self._free.pop() if self._free else self._build()
        try:
            yield borrowed
        finally:
            with self._lock:
                self._free.append(borrowed)


_pool = lru_cache(maxsize=8)(_Pool)


def _keras_trainer(spec: HeadSpec, recipe: Recipe) -> Trainer:
    from fedtransfer.client.training.keras import KerasTrainer  # loads TensorFlow

    return KerasTrainer(spec, recipe)


def trainer(spec: HeadSpec, recipe: Recipe) -> AbstractContextManager[Trainer]:
    """Borrow a trainer: ``with trainer(spec, recipe) as t: t.train(…)``."""
    recipe = replace(recipe, epochs=0, patience=0)  # each call of train gives its own
    return _pool(spec, recipe if spec.above else replace(recipe, backbone_rate=1.0)).take()


def fine_tune(
    task: Task, x: Features, y: Labels, spec: HeadSpec, config: RunConfig, *,
    validation: tuple[Features, Labels] | None = None, correction: Arrays | None = None,
) -> Arrays:  # fmt: skip
    """Return the head after training on a site's images, without differential privacy of images.

    The task's round and site, and the config's seed, key the draws of batches. The ``validation``
    images serve early stopping, with ``config.patience``; ``correction`` is SCAFFOLD's.
    """
    recipe, [weights] = Recipe.from_config(config), task.extra.get(CLASS_WEIGHTS, (None,))
    with trainer(spec, recipe) as t:
        return t.train(
            task.head, x, y, generator(config.seed, "local training", task.round, task.site), recipe.epochs,
            recipe.patience, validation, rate=task.rate, correction=correction, class_weights=weights,
        )  # fmt: skip
