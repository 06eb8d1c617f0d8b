"""Evaluations of a head in sums that add up over sites; every score of a benchmark comes from them.

Next to the confusion matrix and the summed loss there are two kinds of histograms. Calibration: by
the probability of the predicted class, in 15 equal bins (Guo et al. 2017, arXiv 1706.04599).
Ranking: for each class, images of it and of the others by the log-odds of its probability, in bins
of 1/128 from -16 to 16; larger values are in the outermost bins. Two images in one bin count as a
tie, so the error of an AUROC is at most half the share of tied pairs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.head.metrics import confusion_matrix, cross_entropy

CALIBRATION_BINS = 15
LARGEST, WIDTH = 16.0, 1 / 128  # log-odds: the outermost edge, and the width of a bin
_BINS = round(2 * LARGEST / WIDTH)

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The evaluation of a head on some images; ``+`` adds those of several sites.

    Attributes:
        confusion: images by true class and predicted class, (C, C).
        loss: sum of the cross-entropy, nats.
        chosen: by the probability of the predicted class, in 15 bins: the number of images, the
            number of correct ones, and the sum of that probability; (3, 15) float64.
        ranks: for each class, images of the others and of it by their log-odds, (C, 2, 4096).
    """

    confusion: Counts
    loss: float
    chosen: NDArray[np.float64]
    ranks: Counts

    @classmethod
    def of(cls, probabilities: NDArray[np.float32], labels: Counts) -> "Evaluation":
        """Evaluate probabilities (n, C) against class numbers (n,)."""
        right = probabilities.argmax(1) == labels
        top = probabilities.max(1, initial=0.0).astype(np.float64)
        bins = np.minimum((top * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
        chosen = [np.bincount(bins, weights, CALIBRATION_BINS) for weights in (np.ones(len(top)), right, top)]
        confusion, loss = confusion_matrix(probabilities, labels), cross_entropy(probabilities, labels)
        return cls(confusion, loss, np.stack(chosen), _ranks(probabilities, labels))

    def __add__(self, other: "Evaluation") -> "Evaluation":
        chosen, ranks = self.chosen + other.chosen, self.ranks + other.ranks
        return Evaluation(self.confusion + other.confusion, self.loss + other.loss, chosen, ranks)

    @property
    def measures(self) -> dict[str, float]:
        """Every score by name, macro means over the classes that have images; NaN for no images."""
        of_class, predicted, right = self.confusion.sum(1), self.confusion.sum(0), np.diag(self.confusion)
        here, n = of_class > 0, int(self.confusion.sum())
        if not n:
            names = "accuracy balanced_accuracy macro_precision macro_f1 auroc auroc_off nll ece"
            return dict.fromkeys(names.split(), float("nan"))
        _, hits, confidence = self.chosen
        auroc, off = self.auroc
        return {
            "accuracy": float(right.sum() / n),
            "balanced_accuracy": float(np.mean(right[here] / of_class[here])),
            "macro_precision": float(np.mean(right[here] / np.maximum(predicted[here], 1))),
            "macro_f1": float(np.mean(2 * right[here] / (of_class + predicted)[here])),
            "auroc": auroc,
            "auroc_off": off,
            "nll": self.loss / n,
            "ece": float(np.abs(hits - confidence).sum() / n),
        }

    @property
    def auroc(self) -> tuple[float, float]:
        """Mean AUROC of each class against the others, and a bound on its error.

        The mean is over classes that have both kinds of images; NaN if no class has.
        """
        values, errors = [], []
        for others, members in self.ranks.astype(np.float64):
            if pairs := others.sum() * members.sum():
                below = np.cumsum(others) - others
                ties = 0.5 * (members @ others) / pairs
                values.append(members @ below / pairs + ties)
                errors.append(ties)
        return (float(np.mean(values)), float(np.mean(errors))) if values else (float("nan"), float("nan"))


def _ranks(probabilities: NDArray[np.float32], labels: Counts) -> Counts:
    classes = probabilities.shape[1]
    p = probabilities.astype(np.float64)
    with np.errstate(divide="ignore"):
        odds = np.clip(np.log(p) - np.log1p(-np.minimum(p, 1.0)), -LARGEST, LARGEST)
    bins = np.minimum(((odds + LARGEST) / WIDTH).astype(np.int64), _BINS - 1)
    member = labels[:, None] == np.arange(classes)
    cells = (2 * np.arange(classes) + member) * _BINS + bins
    counts = np.bincount(cells.ravel(), minlength=2 * classes * _BINS)
    return counts.reshape(classes, 2, _BINS).astype(np.int64)
