"""Training of any head with any Keras optimizer, compiled once; one call trains several epochs."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.client.training.trainer import Features, Recipe, Trainer, TrainingJob, batches, pairs
from fedtransfer.common.head.head import Arrays, HeadSpec
from fedtransfer.common.head.keras_head import build_above, build_head, make_optimizer
from fedtransfer.common.tensorflow import keras, tf

BATCH = 256  # images in one pass through convolutions when scoring
CHUNK = 1 << 26  # bytes of features copied to TensorFlow at a time


class KerasTrainer(Trainer):
    """A compiled head and optimizer."""

    def __init__(self, spec: HeadSpec, recipe: Recipe) -> None:
        self._recipe = recipe
        self._above, self._model = build_above(spec), build_head(spec)
        self._parts = [part for part in (self._above, self._model) if part]
        self._weights = [variable for part in self._parts for variable in part.trainable_variables]
        self._seeds = self._model.non_trainable_variables
        rate, decay = recipe.learning_rate, recipe.weight_decay
        self._optimizer = make_optimizer(recipe.optimizer, rate, self._weights, weight_decay=decay)
        self._fresh = [variable.numpy() for variable in self._optimizer.variables]
        head = [tf.TensorSpec(shape) for shape in spec.shapes]
        x, y = tf.TensorSpec((None, spec.width)), tf.TensorSpec((None,), tf.int32)
        rows, flag = tf.TensorSpec((None, None, recipe.batch_size), tf.int32), tf.TensorSpec((), tf.bool)
        seeds = [tf.TensorSpec(variable.shape, variable.dtype) for variable in self._seeds]
        factors = (tf.TensorSpec(()), head if recipe.corrected else [], tf.TensorSpec((spec.classes,)))
        steps = tf.function(self._steps, autograph=False)
        self._run = steps.get_concrete_function(head, seeds, flag, *factors, x, y, rows)
        self._probabilities = tf.function(self._softmax, autograph=False).get_concrete_function(head, x)

    def start(self, job: TrainingJob) -> Callable[[int], Arrays]:
        """Begin at the job's head, with fresh optimizer slots and fresh dropout seeds."""
        head, x, y, rng, rate, correction, class_weights = job
        first = [tf.constant(array) for array in head]
        seeds = [tf.constant(rng.integers(0, 2**31, v.shape), v.dtype) for v in self._seeds]
        if correction is None and self._recipe.corrected:
            correction = tuple(np.zeros_like(array) for array in head)
        weights_of_classes = np.ones(head[-1].size, np.float32) if class_weights is None else class_weights
        corrections = [tf.constant(array) for array in correction or ()]
        factors = (tf.constant(rate, tf.float32), corrections, tf.constant(weights_of_classes))
        fresh = True

        def advance(epochs: int) -> Arrays:
            nonlocal fresh
            shuffled = (batches(len(y), self._recipe.batch_size, rng) for _ in range(epochs))
            # One batch per step, or two for Per-FedAvg.
            rows = np.concatenate(
                [pairs(epoch) if self._recipe.inner_rate else epoch[:, None] for epoch in shuffled]
            )
            weights = first  # the result of a site without training images
            steps = max(1, CHUNK // (4 * math.prod(rows.shape[1:]) * x.shape[1]))
            for chunk in (rows[start : start + steps] for start in range(0, len(rows), steps)):
                images, numbers = chunk[chunk >= 0], np.full(chunk.shape, -1, np.int32)
                numbers[chunk >= 0] = np.arange(len(images))
                data = (tf.constant(x[images]), tf.constant(y[images], tf.int32), tf.constant(numbers))
                weights = self._run(first, seeds, tf.constant(fresh), *factors, *data)
                fresh = False
            return tuple(weight.numpy() for weight in weights)

        return advance

    def predict(self, head: Arrays, x: Features) -> NDArray[np.float32]:
        """Return class probabilities (n, C) of features (n, d) under ``head``."""
        if not len(x):  # convolutions do not accept an empty batch
            return np.empty((0, len(head[-1])), np.float32)
        arrays, size = [tf.constant(array) for array in head], BATCH if self._above else len(x)
        pieces = [x[start : start + size] for start in range(0, len(x), size)]
        return np.concatenate([self._probabilities(arrays, tf.constant(piece)).numpy() for piece in pieces])

    def _steps(
        self, head: list[Any], seeds: list[Any], fresh: Any, rate: Any, correction: list[Any],
        class_weights: Any, x: Any, y: Any, rows: Any,
    ) -> list[Any]:  # fmt: skip
        """Take a step per row of image numbers, padded with -1; reset state if ``fresh``."""
        recipe = self._recipe

        def begin() -> Any:
            state = [*self._weights, *self._seeds, *self._optimizer.variables]
            for variable, value in zip(state, [*head, *seeds, *self._fresh], strict=True):
                variable.assign(value)
            self._optimizer.learning_rate.assign(recipe.learning_rate * rate)
            return tf.constant(0)

        def slope(row: Any) -> list[Any]:
            present = tf.cast(row >= 0, tf.float32)
            batch = tf.maximum(row, 0)
            labels = tf.gather(y, batch)
            with tf.GradientTape() as tape:
                scores = self._scores(tf.gather(x, batch), training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores)
                losses *= present * tf.gather(class_weights, labels)
                penalties = [penalty for part in self._parts for penalty in part.losses]
                loss = tf.reduce_sum(losses) / tf.reduce_sum(present) + sum(penalties)
            return tape.gradient(loss, self._weights)

        def step(i: Any) -> Any:
            if recipe.inner_rate:  # Per-FedAvg: the gradient after a step on the first batch, on the second
                before = [tf.identity(weight) for weight in self._weights]
                deep = len(self._above.trainable_variables) if self._above else 0
                for j, (weight, g) in enumerate(zip(self._weights, slope(rows[i, 0]), strict=True)):
                    weight.assign_sub(recipe.inner_rate * (recipe.backbone_rate if j < deep else 1.0) * g)
                gradients = slope(rows[i, 1])
                for weight, value in zip(self._weights, before, strict=True):
                    weight.assign(value)
            else:
                gradients = slope(rows[i, 0])
            if recipe.proximal:  # FedProx
                moved = zip(gradients, self._weights, head, strict=True)
                gradients = [g + recipe.proximal * (w - w0) for g, w, w0 in moved]
            if correction:  # SCAFFOLD
                gradients = [g + c for g, c in zip(gradients, correction, strict=True)]
            deep = self._above.trainable_variables if self._above and recipe.backbone_rate != 1 else []
            before = [tf.identity(weight) for weight in deep]
            self._optimizer.apply(gradients, self._weights)
            for weight, value in zip(deep, before, strict=True):
                weight.assign(value + recipe.backbone_rate * (weight - value))
            return i + 1

        first = tf.cond(fresh, begin, lambda: tf.constant(0))
        tf.while_loop(lambda i: i < tf.shape(rows)[0], step, [first])
        return [variable.value for variable in self._weights]

    def _softmax(self, head: list[Any], x: Any) -> Any:
        with keras.StatelessScope(zip(self._weights, head, strict=True)):
            return tf.nn.softmax(self._scores(x, training=False))

    def _scores(self, x: Any, training: bool) -> Any:
        return self._model(self._above(x, training=False) if self._above else x, training=training)
