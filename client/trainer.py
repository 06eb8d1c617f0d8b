"""Fine-tune a head on features: compiled once, one call an epoch, and nothing of one message left for the next."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.compute import keras, tf
from common.config import RunConfig
from common.head import Arrays, HeadSpec, build_head
from common.metrics import cross_entropy

Features = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Recipe:
    """How a head is fine-tuned."""

    optimizer: str
    learning_rate: float
    batch_size: int
    epochs: int
    patience: int = 0

    @classmethod
    def from_config(cls, config: RunConfig) -> "Recipe":
        """Read the local training settings from a run config."""
        return cls(config.optimizer, config.learning_rate, config.batch_size, config.local_epochs, config.patience)


def make_optimizer(name: str, learning_rate: float) -> Any:
    """Build a Keras optimizer by name; ``momentum`` and ``nesterov`` are SGD with momentum 0.9."""
    if name in ("momentum", "nesterov"):
        return keras.optimizers.SGD(learning_rate, momentum=0.9, nesterov=name == "nesterov")
    return keras.optimizers.get({"class_name": name, "config": {"learning_rate": learning_rate}})


class Trainer:
    """A compiled head and optimizer. Every call starts from the head it is given and from fresh optimizer state.

    Use it through ``trainer``: it is not for several threads at once.
    """

    def __init__(self, spec: HeadSpec, optimizer: str, learning_rate: float, batch_size: int) -> None:
        self.batch_size = batch_size
        self._model = build_head(spec)
        self._weights = self._model.trainable_variables
        self._seeds = self._model.non_trainable_variables
        self._optimizer = make_optimizer(optimizer, learning_rate)
        self._optimizer.build(self._weights)
        self._fresh = [variable.numpy() for variable in self._optimizer.variables]
        head = [tf.TensorSpec(shape) for shape in spec.shapes]
        x, y = tf.TensorSpec((None, spec.features)), tf.TensorSpec((None,), tf.int32)
        batches, flag = tf.TensorSpec((None, batch_size), tf.int32), tf.TensorSpec((), tf.bool)
        seeds = [tf.TensorSpec(variable.shape, variable.dtype) for variable in self._seeds]
        self._run = tf.function(self._steps, autograph=False).get_concrete_function(head, seeds, flag, x, y, batches)
        self._probabilities = tf.function(self._softmax, autograph=False).get_concrete_function(head, x)

    def _steps(self, head: list[Any], seeds: list[Any], fresh: Any, x: Any, y: Any, batches: Any) -> list[Any]:
        """Take one step for each row of ``batches``, image numbers padded with -1; start anew if ``fresh``."""

        def begin() -> Any:
            for variable, value in zip(
                [*self._weights, *self._seeds, *self._optimizer.variables], [*head, *seeds, *self._fresh], strict=True
            ):
                variable.assign(value)
            return tf.constant(0)

        def step(i: Any) -> Any:
            filled = tf.cast(batches[i] >= 0, tf.float32)
            rows = tf.maximum(batches[i], 0)
            with tf.GradientTape() as tape:
                scores = self._model(tf.gather(x, rows), training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(y, rows), scores)
                loss = tf.reduce_sum(losses * filled) / tf.reduce_sum(filled) + sum(self._model.losses)
            self._optimizer.apply(tape.gradient(loss, self._weights), self._weights)
            return i + 1

        first = tf.cond(fresh, begin, lambda: tf.constant(0))
        tf.while_loop(lambda i: i < tf.shape(batches)[0], step, [first])
        return [variable.value for variable in self._weights]

    def _softmax(self, head: list[Any], x: Any) -> Any:
        scores, _ = self._model.stateless_call(head, self._seeds, x, training=False)
        return tf.nn.softmax(scores)

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
        start = [tf.constant(array) for array in head]
        seeds = [tf.constant(rng.integers(0, 2**31, v.shape), v.dtype) for v in self._seeds]
        data = (tf.constant(x), tf.constant(y, tf.int32))

        def run(fresh: bool, epochs: int) -> Arrays:
            batches = np.concatenate([_batches(len(y), self.batch_size, rng) for _ in range(epochs)])
            weights = self._run(start, seeds, tf.constant(fresh), *data, tf.constant(batches))
            return tuple(weight.numpy() for weight in weights)

        if not patience or validation is None or not len(validation[1]):
            return run(True, epochs)
        best, best_loss, waited = head, math.inf, 0
        for epoch in range(epochs):
            now = run(epoch == 0, 1)
            loss = cross_entropy(self.predict(now, validation[0]), validation[1])
            waited += 1
            if loss < best_loss:
                best, best_loss, waited = now, loss, 0
            elif waited >= patience:
                break
        return best

    def predict(self, head: Arrays, x: Features) -> NDArray[np.float32]:
        """Return class probabilities (n, C) of features (n, d) under ``head``."""
        return self._probabilities([tf.constant(array) for array in head], tf.constant(x)).numpy()


def _batches(n: int, size: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Shuffle n image numbers into rows of ``size``; the last row is padded with -1."""
    order = np.full(math.ceil(n / size) * size, -1, np.int32)
    order[:n] = rng.permutation(n)
    return order.reshape(-1, size)


class _Pool:
    """Trainers of one kind, as many as are in use at a time: models are built once a process and memory stays flat."""

    def __init__(self, *kind: Any) -> None:
        self._kind = kind
        self._free: list[Trainer] = []
        self._lock = threading.Lock()

    @contextmanager
    def take(self) -> Iterator[Trainer]:
        with self._lock:  # also held while one is built: Keras' name scopes are not for several threads
            trainer = self._free.pop() if self._free else Trainer(*self._kind)
        try:
            yield trainer
        finally:
            with self._lock:
                self._free.append(trainer)


_pool = lru_cache(maxsize=8)(_Pool)


def trainer(spec: HeadSpec, recipe: Recipe) -> Any:
    """Borrow a compiled trainer: ``with trainer(spec, recipe) as t: t.train(…)``."""
    return _pool(spec, recipe.optimizer, recipe.learning_rate, recipe.batch_size).take()
