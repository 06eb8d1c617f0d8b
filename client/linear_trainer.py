"""Softmax regression by plain SGD, in NumPy.

On matrices as small as a head's, TensorFlow spends most of its time between operations: this is three times faster
than the compiled Keras trainer (``docs/performance.md``) and gives the same heads.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from client.trainer import Features, Labels, Trainer, batches
from common.head import Arrays


class LinearTrainer(Trainer):
    """Trains one linear layer under the mean cross-entropy of its softmax."""

    def __init__(self, learning_rate: float, batch_size: int, proximal: float = 0.0) -> None:
        self._rate = np.float32(learning_rate)
        self._batch_size = batch_size
        self._pull = np.float32(learning_rate * proximal)

    def start(self, head: Arrays, x: Features, y: Labels, rng: np.random.Generator) -> Callable[[int], Arrays]:
        """Begin at ``head``; plain SGD has no state."""
        weights, bias = head[0].T.copy(), head[1].copy()  # (C, d): its gradient is the faster product this way round
        anchors = (weights.copy(), bias.copy()) if self._pull else None

        def advance(epochs: int) -> Arrays:
            for _ in range(epochs):
                for row in batches(len(y), self._batch_size, rng):
                    rows = row[row >= 0] if row[-1] < 0 else row
                    xb = x.take(rows, axis=0)
                    # The gradient of the mean loss with respect to the scores: (p - y) / n.
                    gradient = _softmax(xb @ weights.T + bias)
                    gradient[np.arange(len(rows)), y[rows]] -= 1
                    gradient *= self._rate / np.float32(len(rows))
                    if anchors is not None:  # FedProx: with the gradient that the head had before this step
                        np.subtract(weights, self._pull * (weights - anchors[0]), out=weights)
                        np.subtract(bias, self._pull * (bias - anchors[1]), out=bias)
                    np.subtract(weights, gradient.T @ xb, out=weights)
                    np.subtract(bias, gradient.sum(0), out=bias)
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
