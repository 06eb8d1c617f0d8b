"""Any head under any Keras optimizer: compiled once, one call for the epochs that are asked for."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.trainer import Features, Labels, Trainer, batches
from common.compute import keras, tf
from common.head import Arrays, HeadSpec, build_head


def make_optimizer(name: str, learning_rate: float) -> Any:
    """Build a Keras optimizer by name; ``momentum`` and ``nesterov`` are SGD with momentum 0.9."""
    if name in ("momentum", "nesterov"):
        return keras.optimizers.SGD(learning_rate, momentum=0.9, nesterov=name == "nesterov")
    return keras.optimizers.get({"class_name": name, "config": {"learning_rate": learning_rate}})


class KerasTrainer(Trainer):
    """A compiled head and optimizer."""

    def __init__(
        self, spec: HeadSpec, optimizer: str, learning_rate: float, batch_size: int, proximal: float = 0.0
    ) -> None:
        self._batch_size = batch_size
        self._proximal = proximal
        self._model = build_head(spec)
        self._weights = self._model.trainable_variables
        self._seeds = self._model.non_trainable_variables
        self._optimizer = make_optimizer(optimizer, learning_rate)
        self._optimizer.build(self._weights)
        self._fresh = [variable.numpy() for variable in self._optimizer.variables]
        head = [tf.TensorSpec(shape) for shape in spec.shapes]
        x, y = tf.TensorSpec((None, spec.features)), tf.TensorSpec((None,), tf.int32)
        rows, flag = tf.TensorSpec((None, batch_size), tf.int32), tf.TensorSpec((), tf.bool)
        seeds = [tf.TensorSpec(variable.shape, variable.dtype) for variable in self._seeds]
        self._run = tf.function(self._steps, autograph=False).get_concrete_function(head, seeds, flag, x, y, rows)
        self._probabilities = tf.function(self._softmax, autograph=False).get_concrete_function(head, x)

    def start(self, head: Arrays, x: Features, y: Labels, rng: np.random.Generator) -> Callable[[int], Arrays]:
        """Begin at ``head`` with fresh optimizer slots and dropout seeds."""
        first = [tf.constant(array) for array in head]
        seeds = [tf.constant(rng.integers(0, 2**31, v.shape), v.dtype) for v in self._seeds]
        data = (tf.constant(x), tf.constant(y, tf.int32))
        fresh = True

        def advance(epochs: int) -> Arrays:
            nonlocal fresh
            rows = np.concatenate([batches(len(y), self._batch_size, rng) for _ in range(epochs)])
            weights = self._run(first, seeds, tf.constant(fresh), *data, tf.constant(rows))
            fresh = False
            return tuple(weight.numpy() for weight in weights)

        return advance

    def predict(self, head: Arrays, x: Features) -> NDArray[np.float32]:
        """Return class probabilities (n, C) of features (n, d) under ``head``."""
        return self._probabilities([tf.constant(array) for array in head], tf.constant(x)).numpy()

    def _steps(self, head: list[Any], seeds: list[Any], fresh: Any, x: Any, y: Any, rows: Any) -> list[Any]:
        """Take one step for each row of image numbers, padded with -1; start anew if ``fresh``."""

        def begin() -> Any:
            state = [*self._weights, *self._seeds, *self._optimizer.variables]
            for variable, value in zip(state, [*head, *seeds, *self._fresh], strict=True):
                variable.assign(value)
            return tf.constant(0)

        def step(i: Any) -> Any:
            filled = tf.cast(rows[i] >= 0, tf.float32)
            batch = tf.maximum(rows[i], 0)
            with tf.GradientTape() as tape:
                scores = self._model(tf.gather(x, batch), training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(y, batch), scores)
                loss = tf.reduce_sum(losses * filled) / tf.reduce_sum(filled) + sum(self._model.losses)
            gradients = tape.gradient(loss, self._weights)
            if self._proximal:
                gradients = [
                    g + self._proximal * (w - w0) for g, w, w0 in zip(gradients, self._weights, head, strict=True)
                ]
            self._optimizer.apply(gradients, self._weights)
            return i + 1

        first = tf.cond(fresh, begin, lambda: tf.constant(0))
        tf.while_loop(lambda i: i < tf.shape(rows)[0], step, [first])
        return [variable.value for variable in self._weights]

    def _softmax(self, head: list[Any], x: Any) -> Any:
        scores, _ = self._model.stateless_call(head, self._seeds, x, training=False)
        return tf.nn.softmax(scores)
