"""Counts that add up over sites, and the scores computed from them.

A score is computed from summed counts, never as a mean of sites' scores: the macro F1 of a
federation is not the mean of its sites' macro F1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_PROBABILITY = 1e-12  # that counts for an image's true class, so that no loss is infinite


@dataclass(frozen=True)
class Counts:
    """Counts of a head's predictions by class; ``+`` adds the counts of several sites."""

    images: NDArray[np.int64]  # images of each true class, (C,) int64
    predicted: NDArray[np.int64]  # images predicted as each class, (C,) int64
    correct: NDArray[np.int64]  # images of each class predicted as it, (C,) int64
    loss: float  # sum of the cross-entropy over the images, nats

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.images + other.images,
            self.predicted + other.predicted,
            self.correct + other.correct,
            self.loss + other.loss,
        )

    @classmethod
    def empty(cls, classes: int) -> "Counts":
        """Return the counts of no images."""
        zeros = np.zeros(classes, np.int64)
        return cls(zeros, zeros, zeros, 0.0)

    @classmethod
    def of(cls, probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> "Counts":
        """Count predictions (n, C) against labels (n,) of class numbers."""
        if not len(labels):
            return cls.empty(probabilities.shape[1])
        confusion = confusion_matrix(probabilities, labels)
        return cls(
            confusion.sum(1),
            confusion.sum(0),
            np.diag(confusion).copy(),
            cross_entropy(probabilities, labels),
        )

    @property
    def total(self) -> int:
        """Number of images."""
        return int(self.images.sum())

    @property
    def accuracy(self) -> float:
        """Share of images predicted as their class; NaN for no images."""
        return float(self.correct.sum() / self.total) if self.total else float("nan")

    @property
    def mean_loss(self) -> float:
        """Mean cross-entropy an image, in nats; NaN for no images."""
        return self.loss / self.total if self.total else float("nan")

    def macro(self) -> dict[str, float]:
        """Return macro precision, recall, F1 over classes with images; one never predicted: 0."""
        here = self.images > 0
        images, predicted, correct = self.images[here], self.predicted[here], self.correct[here]
        if not here.any():
            return dict.fromkeys(("macro_precision", "macro_recall", "macro_f1"), float("nan"))
        return {
            "macro_precision": float(np.mean(correct / np.maximum(predicted, 1))),
            "macro_recall": float(np.mean(correct / images)),
            "macro_f1": float(np.mean(2 * correct / (images + predicted))),
        }


def confusion_matrix(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the (C, C) matrix of images by true class (rows) and predicted class (columns)."""
    classes = probabilities.shape[1]
    pairs = labels * classes + probabilities.argmax(1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def cross_entropy(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the sum over images of -log p of the true class, with p bounded below, in float64."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(chosen, LEAST_PROBABILITY)).sum())
