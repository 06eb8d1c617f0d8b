"""Trainers to borrow: one for each kind of head and recipe, built once a process."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import lru_cache

from fedtransfer.client.training.keras import KerasTrainer
from fedtransfer.client.training.linear import LinearTrainer
from fedtransfer.client.training.trainer import Recipe, Trainer
from fedtransfer.common.head.head import HeadSpec


class _Pool:
    """Trainers of one kind, one for each concurrent user, built once in a process."""

    def __init__(self, spec: HeadSpec, recipe: Recipe) -> None:
        self._kind = (spec, recipe)
        self._free: list[Trainer] = []
        self._lock = threading.Lock()

    @contextmanager
    def take(self) -> Iterator[Trainer]:
        with self._lock:  # also held while one is built: Keras' name scopes are not for several threads
            borrowed = self._free.pop() if self._free else _build(*self._kind)
        try:
            yield borrowed
        finally:
            with self._lock:
                self._free.append(borrowed)


_pool = lru_cache(maxsize=8)(_Pool)


def trainer(spec: HeadSpec, recipe: Recipe) -> AbstractContextManager[Trainer]:
    """Borrow a trainer: ``with trainer(spec, recipe) as t: t.train(…)``."""
    recipe = replace(recipe, epochs=0, patience=0)  # each call of train gives its own
    return _pool(spec, recipe if spec.above else replace(recipe, backbone_rate=1.0)).take()


def _build(spec: HeadSpec, recipe: Recipe) -> Trainer:
    if recipe.optimizer == "sgd" and spec == HeadSpec(spec.features, spec.classes):
        return LinearTrainer(recipe)
    return KerasTrainer(spec, recipe)
