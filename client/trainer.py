"""Fine-tune a head on features. Nothing of one message is left for the next: each starts from the head it brings.

Two trainers do the same arithmetic: ``client.linear_trainer`` for the default, one softmax layer under plain SGD, and
``client.keras_trainer`` for every other head and optimizer.
"""

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from common.config import RunConfig
from common.head import Arrays, HeadSpec
from common.metrics import cross_entropy

Features = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Recipe:
    """How a head is fine-tuned; ``proximal`` is FedProx' μ: the loss gets μ/2 · ‖w - (the head it began at)‖²."""

    optimizer: str
    learning_rate: float
    batch_size: int
    epochs: int
    patience: int = 0
    proximal: float = 0.0

    @classmethod
    def from_config(cls, config: RunConfig) -> "Recipe":
        """Read the local training settings from a run config."""
        proximal = config.proximal if config.strategy == "fedprox" else 0.0
        return cls(
            config.optimizer, config.learning_rate, config.batch_size, config.local_epochs, config.patience, proximal
        )


class Trainer(ABC):
    """Trains heads of one kind. Not for several threads at once: borrow one with ``trainer``."""

    @abstractmethod
    def start(self, head: Arrays, x: Features, y: Labels, rng: np.random.Generator) -> Callable[[int], Arrays]:
        """Begin at ``head`` with fresh optimizer state; return a function that trains so many more epochs."""

    @abstractmethod
    def predict(self, head: Arrays, x: Features) -> NDArray[np.float32]:
        """Return class probabilities (n, C) of features (n, d) under ``head``."""

    def train(
        self,
        head: Arrays,
        x: Features,
        y: Labels,
        rng: np.random.Generator,
        epochs: int,
        patience: int = 0,
        validation: tuple[Features, Labels] | None = None,
    ) -> Arrays:
        """Fine-tune ``head`` on features (n, d) and class numbers (n,); return the new head.

        With ``patience`` and validation images, stop once the validation loss has not improved for that many epochs,
        and return the head of the best epoch.
        """
        advance = self.start(head, x, y, rng)
        if not patience or validation is None or not len(validation[1]):
            return advance(epochs)
        best, best_loss, waited = head, math.inf, 0
        for _ in range(epochs):
            now = advance(1)
            loss = cross_entropy(self.predict(now, validation[0]), validation[1])
            waited += 1
            if loss < best_loss:
                best, best_loss, waited = now, loss, 0
            elif waited >= patience:
                break
        return best


def batches(n: int, size: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Shuffle n image numbers into rows of ``size``: one epoch's batches. The last row is padded with -1."""
    order = np.full(math.ceil(n / size) * size, -1, np.int32)
    order[:n] = rng.permutation(n)
    return order.reshape(-1, size)


class _Pool:
    """Trainers of one kind, as many as are in use at a time: they are built once a process and memory stays flat."""

    def __init__(self, spec: HeadSpec, optimizer: str, learning_rate: float, batch_size: int, proximal: float) -> None:
        self._kind = (spec, optimizer, learning_rate, batch_size, proximal)
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
    return _pool(spec, recipe.optimizer, recipe.learning_rate, recipe.batch_size, recipe.proximal).take()


def _build(spec: HeadSpec, optimizer: str, learning_rate: float, batch_size: int, proximal: float) -> Trainer:
    from client.keras_trainer import KerasTrainer
    from client.linear_trainer import LinearTrainer

    if optimizer == "sgd" and spec == HeadSpec(spec.features, spec.classes):
        return LinearTrainer(learning_rate, batch_size, proximal)
    return KerasTrainer(spec, optimizer, learning_rate, batch_size, proximal)
