"""Softmax regression by plain SGD, in NumPy.

On matrices as small as a head's, TensorFlow spends most of its time between operations. This is
three times faster than the compiled Keras trainer (``docs/performance.md``), and gives the same
heads.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedtransfer.client.training.trainer import Features, Labels, Recipe, Trainer, batches, pairs
from fedtransfer.common.head.head import Arrays

Weights = NDArray[np.float32]


class LinearTrainer(Trainer):
    """Trains one linear layer under the mean cross-entropy of its softmax."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def start(
        self,
        head: Arrays,
        x: Features,
        y: Labels,
        rng: np.random.Generator,
        *,
        rate: float = 1.0,
        correction: Arrays | None = None,
        class_weights: NDArray[np.float32] | None = None,
    ) -> Callable[[int], Arrays]:
        """Begin with ``head``; plain SGD has no state."""
        recipe = self._recipe
        step, inner = np.float32(recipe.learning_rate * rate), np.float32(recipe.inner_rate)
        pull, decay = (
            np.float32(recipe.learning_rate * rate * share) for share in (recipe.proximal, recipe.weight_decay)
        )
        weights, bias = head[0].T.copy(), head[1].copy()  # (C, d): the gradient is a faster product in this layout
        anchors = (weights.copy(), bias.copy()) if pull else None
        drift = None if correction is None else (step * correction[0].T, step * correction[1])

        def slope(weights: Weights, bias: Weights, row: NDArray[np.int32], rate: np.float32) -> tuple[Weights, Weights]:
            """Return rate · the gradient of the mean loss of a batch."""
            rows = row[row >= 0] if row[-1] < 0 else row
            xb, yb = x.take(rows, axis=0), y[rows]
            # With respect to the scores: (p - y) / n.
            gradient = _softmax(xb @ weights.T + bias)
            gradient[np.arange(len(rows)), yb] -= 1
            if class_weights is not None:
                gradient *= class_weights[yb, None]
            gradient *= rate / np.float32(len(rows))
            return gradient.T @ xb, gradient.sum(0)

        def advance(epochs: int) -> Arrays:
            for _ in range(epochs):
                rows = batches(len(y), recipe.batch_size, rng)
                for row in pairs(rows) if inner else rows:
                    if inner:  # Per-FedAvg: the gradient after a step on the first batch, on the second
                        dw, db = slope(weights, bias, row[0], inner)
                        dw, db = slope(weights - dw, bias - db, row[1], step)
                    else:
                        dw, db = slope(weights, bias, row, step)
                    if anchors is not None:  # FedProx
                        dw += pull * (weights - anchors[0])
                        db += pull * (bias - anchors[1])
                    if drift is not None:  # SCAFFOLD
                        dw += drift[0]
                        db += drift[1]
                    if decay:
                        dw += decay * weights
                    np.subtract(weights, dw, out=weights)
                    np.subtract(bias, db, out=bias)
            return np.ascontiguousarray(weights.T), bias.copy()

        return advance

    def predict(self, head: Arrays, x: Features) -> NDArray[np.float32]:
        """Return class probabilities (n, C) of features (n, d) under ``head``."""
        return _softmax(x @ head[0] + head[1])


def _softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    scores -= scores.max(1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(1, keepdims=True)
    return scores
