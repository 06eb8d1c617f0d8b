"""White-box canaries for a linear head: each has its own direction, so all can be in one run.

A gradient with one entry that is not zero, "Dirac canary", is the worst case of clipping and noise
(Nasr et al. 2023, arXiv 2302.07956). For a head with kernel (d, C), d at least m, canary j has
features along axis j alone and a class y_j: the gradient of its loss, and its share in any sum of
features, are in row j, where no other canary's are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.head.head import Arrays

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Canaries:
    """Canaries, some of them in the data.

    Attributes:
        inside: (m,), which are: each by a fair coin.
        classes: C.
        length: norm of a canary's features, or of its site's update. Beyond the bound, so that
            clipping is needed; far beyond 1, so that next to nothing of an image's gradient is in
            the bias, which all images share.
    """

    inside: NDArray[np.bool_]
    classes: int = 2
    length: float = 100.0

    @classmethod
    def draw(cls, count: int, rng: np.random.Generator) -> "Canaries":
        """Toss the coins of ``count`` canaries."""
        return cls(rng.random(count) < 0.5)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The canaries' classes (m,)."""
        return np.arange(len(self.inside)) % self.classes

    def images(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the images inside: features (n, m) and class numbers (n,)."""
        rows = np.flatnonzero(self.inside)
        x = np.zeros((len(rows), len(self.inside)), np.float32)
        x[np.arange(len(rows)), rows] = self.length
        return x, self.labels[rows]

    def updates(self) -> list[Arrays]:
        """Return the updates of the sites inside, each with one entry that is not zero."""
        updates: list[Arrays] = []
        for row in np.flatnonzero(self.inside):
            kernel, bias = self.head
            kernel[row, self.labels[row]] = self.length
            updates.append((kernel, bias))
        return updates

    @property
    def head(self) -> Arrays:
        """A new head of zeros: kernel (m, C) and bias (C,)."""
        return np.zeros((len(self.inside), self.classes), np.float32), np.zeros(self.classes, np.float32)

    def singly(self) -> Iterator["Canaries"]:
        """Yield each canary by itself."""
        return (replace(self, inside=self.inside[[row]]) for row in range(len(self.inside)))

    def in_sums(self, released: NDArray[np.floating[Any]]) -> Scores:
        """Score each canary by what a sum of updates, or of features by class, (m, C), has along it."""
        return released[np.arange(len(self.inside)), self.labels].astype(np.float64)

    def in_gram(self, gram: NDArray[np.floating[Any]], by_class: NDArray[np.floating[Any]], clip: float) -> Scores:
        """Score canaries by the Gram matrix (m, m) and class sums (m, C) of clipped features."""
        return clip**2 * np.diag(gram).astype(np.float64) + clip * self.in_sums(by_class)

    def in_head(self, kernel: NDArray[np.floating[Any]]) -> Scores:
        """Score each canary by how far a kernel (m, C) went from zero down the gradient of its loss.

        That gradient is (1/C - y) xᵀ.
        """
        return self.in_sums(kernel) - kernel.mean(1)
