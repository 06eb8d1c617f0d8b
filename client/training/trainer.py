"""Fine-tune a head on features. Each call starts from the head that it gets, without other state.

Two trainers do the same arithmetic: ``fedtransfer.client.training.linear`` for one softmax layer by
the common optimizers, and ``fedtransfer.client.training.keras`` for other heads and optimizers.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.head.metrics import cross_entropy

Features = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Recipe:
    """How a head is fine-tuned. The first five are as in the run config.

    With Per-FedAvg's α a step takes two batches, and its gradient on the second where a step of α
    along that on the first leads. Arrays of the backbone may make a share of each step only
    (discriminative rates; Howard and Ruder 2018, arXiv 1801.06146).
    """

    optimizer: str
    learning_rate: float
    batch_size: int
    epochs: int
    patience: int = 0
    proximal: float = 0.0  # FedProx' μ: the loss gets μ/2 · ‖w - (the head it began at)‖²
    weight_decay: float = 0.0  # λ: each step also shrinks kernels, not biases, by rate · λ
    inner_rate: float = 0.0  # Per-FedAvg's α (0: plain steps)
    corrected: bool = False  # steps take a correction of their gradients (SCAFFOLD)
    backbone_rate: float = 1.0

    @classmethod
    def plain(cls, config: RunConfig) -> "Recipe":
        """Read from a run config how a site trains by itself, as it does in FedAvg."""
        return cls(
            config.optimizer, config.learning_rate, config.batch_size, config.local_epochs, config.patience,
            weight_decay=config.weight_decay, backbone_rate=config.backbone_rate,
        )  # fmt: skip

    @classmethod
    def from_config(cls, config: RunConfig) -> "Recipe":
        """Return a site's recipe in a run, with what the method adds to the steps."""
        options = config.method.options
        return replace(
            cls.plain(config),
            proximal=config.proximal if "proximal" in options else 0.0,
            inner_rate=config.inner_rate if "inner_rate" in options else 0.0,
            corrected=config.method.control_variates,
        )


class TrainingJob(NamedTuple):
    """What a trainer begins with: arguments of ``Trainer.train``."""

    head: Arrays
    x: Features
    y: Labels
    rng: np.random.Generator
    rate: float
    correction: Arrays | None
    class_weights: NDArray[np.float32] | None


class Trainer(ABC):
    """Trains heads of one kind by one recipe. Not thread-safe: borrow one with ``trainer``."""

    @abstractmethod
    def start(self, job: TrainingJob) -> Callable[[int], Arrays]:
        """Begin at the job's head with new optimizer state; return epochs → head after them."""

    @abstractmethod
    def predict(self, head: Arrays, x: Features) -> NDArray[np.float32]:
        """Return class probabilities (n, C) of features (n, d) under ``head``."""

    def train(
        self, head: Arrays, x: Features, y: Labels, rng: np.random.Generator, epochs: int, patience: int = 0,
        validation: tuple[Features, Labels] | None = None, *, rate: float = 1.0,
        correction: Arrays | None = None, class_weights: NDArray[np.float32] | None = None,
    ) -> Arrays:  # fmt: skip
        """Fine-tune ``head`` on features (n, d) and class numbers (n,); return the new head.

        With ``patience`` and validation images, stop once the validation loss has not improved for
        that many epochs, and return the head of the best epoch.

        Args:
            rng: draws batches and dropout.
            epochs, patience: passes over the images; see above.
            rate: share of the recipe's rates that holds.
            correction: added to each step's gradient, shaped as the head; corrected recipes only.
            class_weights: (C,) factors on the images' losses, by class; a batch's sum is divided by
                its images.
        """
        advance = self.start(TrainingJob(head, x, y, rng, rate, correction, class_weights))
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
    """Shuffle n image numbers into rows of ``size``, an epoch's batches; -1 pads the last row."""
    order = np.full(math.ceil(n / size) * size, -1, np.int32)
    order[:n] = rng.permutation(n)
    return order.reshape(-1, size)


def pairs(rows: NDArray[np.int32]) -> NDArray[np.int32]:
    """Pair an epoch's batches (B, size) → (⌈B/2⌉, 2, size); an odd last one is paired with itself.

    So every image is worked with once an epoch, and a site with a single batch trains too.
    """
    return np.concatenate([rows, rows[-1:]] if len(rows) % 2 else [rows]).reshape(-1, 2, rows.shape[1])


def weighted_change(before: Arrays, after: Arrays, weight: int = 1) -> Arrays:
    """Return weight · (after - before), computed in float64 and cast to float32."""
    arrays = zip(after, before, strict=True)
    return tuple((weight * (new.astype(np.float64) - old)).astype(np.float32) for new, old in arrays)
