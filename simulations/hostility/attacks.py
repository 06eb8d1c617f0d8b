"""The attacks of hostile sites, one record each.

A hostile site may train on poisoned images, or alter the update that it made. The latter see all
honest updates of the round before they answer, which no real attacker does: what holds here holds
against those who know less.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]  # as the head sees them, (n, d)
Labels = NDArray[np.int64]  # class numbers (n,)
Vector = NDArray[np.float64]  # an update, the change of a head, with its arrays one after the other: (p,)
Matrix = NDArray[np.float64]  # the honest updates of a round, (K, p)

SPREADS = 1.5  # standard deviations by which a small shift is off: the paper's in all experiments
_REACH = 10.0  # the longest update that an attack sends, over the median length of honest ones


@dataclass(frozen=True)
class Aim:
    """What the hostile sites of a run agree on."""

    source: int  # the class whose images are labelled as the target
    target: int  # the class that images are to be taken for
    pattern: NDArray[np.float32]  # of a backdoor: a direction of features (d,), of length 1

    def marked(self, x: Features) -> Features:
        """Return features (n, d) turned halfway to the pattern, each as long as it was."""
        length = np.linalg.norm(x, axis=1, keepdims=True)
        mixed = x + length * self.pattern
        return np.asarray(mixed * (length / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-12)))


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What a hostile site does; the defaults are those of an honest one.

    Attributes:
        paper: its source.
        poison: training images, and the aim → what it trains on.
        alter: its update, and the honest ones of the round → what it sends.
    """

    paper: str = ""
    poison: Callable[[Features, Labels, Aim], tuple[Features, Labels]] = lambda x, y, aim: (x, y)
    alter: Callable[[Vector, Matrix], Vector] = lambda update, honest: update

    def answer(self, update: Vector, honest: Matrix, scale: float) -> Vector:
        """Return what a hostile site sends: ``scale`` times as long, up to what is admitted."""
        sent = scale * self.alter(update, honest)
        longest = _REACH * np.median(np.linalg.norm(honest, axis=1))
        return np.asarray(sent * min(1.0, longest / max(float(np.linalg.norm(sent)), 1e-300)))


def _flip_labels(x: Features, y: Labels, aim: Aim) -> tuple[Features, Labels]:
    return x, np.where(y == aim.source, aim.target, y)


def _plant_backdoor(x: Features, y: Labels, aim: Aim) -> tuple[Features, Labels]:
    """Mark every other image, and label it as the target."""
    chosen = np.arange(len(y)) % 2 == 0
    return np.where(chosen[:, None], aim.marked(x), x), np.where(chosen, aim.target, y)


ATTACKS: Mapping[str, Attack] = {
    "none": Attack(),
    "sign-flip": Attack(paper="arXiv 1811.03761", alter=lambda update, honest: -update),
    "label-flip": Attack(paper="arXiv 2007.08432", poison=_flip_labels),
    "backdoor": Attack(paper="arXiv 1807.00459", poison=_plant_backdoor),
    "small-shift": Attack(
        paper="arXiv 1902.06156",
        alter=lambda update, honest: honest.mean(0) - SPREADS * honest.std(0) * np.sign(honest.mean(0)),
    ),
    "inner-product": Attack(paper="arXiv 1903.03936", alter=lambda update, honest: -honest.mean(0)),
}
