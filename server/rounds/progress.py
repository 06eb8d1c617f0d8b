"""The progress of a run, and the requests that sites are sent from there.

``Progress`` is all that the next round depends on, so all that a checkpoint holds. It has no
generator state: every random draw is keyed by (seed, purpose, round).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.head.schedule import layer_at, rate
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Extra, Task
from fedtransfer.server.sites.cohort import FailureRecord
from fedtransfer.server.sites.federation import Federation
from fedtransfer.server.strategies.strategy import State

ArrayGroup = tuple[NDArray, ...]  # type: ignore[type-arg]
MOMENTS = "moments"  # among the further arrays: mean and deviation of the federation's features


@dataclass(frozen=True)
class Candidate:
    """A head that may become the result of the run."""

    loss: float  # on the federation's validation images
    round: int  # that it entered
    head: Arrays
    trainable: str = "head"  # the layer of the backbone from which on the arrays are trained


@dataclass(frozen=True)
class Progress:
    """The state between two rounds.

    Attributes:
        arrays: further arrays by name.
        one_shot: ``ridge`` and ``factor`` of a one-shot head.
        counted: site → the last round in which its update counted, if sites have state from it.
        update_norm: the largest median norm of a round's updates so far.
    """

    round: int  # rounds of training that are done
    state: State
    best: Candidate  # the head with the lowest validation loss so far
    reference: float = math.inf  # the loss that early stopping compares with
    waited: int = 0  # rounds since the last improvement
    failure_record: FailureRecord = field(default_factory=FailureRecord)
    trainable: str = "head"  # the layer of the backbone from which on the head's arrays are trained
    run: str = ""  # the run's name at the sites
    arrays: Mapping[str, ArrayGroup] = field(default_factory=dict)
    one_shot: Mapping[str, float] = field(default_factory=dict)
    counted: Mapping[str, int] = field(default_factory=dict)
    update_norm: float = 0.0

    @classmethod
    def begin(cls, state: State, run: str = "", trainable: str = "head") -> "Progress":
        """Return the progress before the first round."""
        best = Candidate(math.inf, 0, state.head, trainable)
        return cls(0, state, best, trainable=trainable, run=run)

    def last(self, loss: float, round: int) -> Candidate:
        """Return the current head as a candidate."""
        return Candidate(loss, round, self.state.head, self.trainable)

    def scored(self, round: int, loss: float) -> "Progress":
        """Return the progress once the head entering a round has a loss; the same if it is NaN."""
        if math.isnan(loss):
            return self
        best = self.last(loss, round) if loss < self.best.loss else self.best
        if loss < self.reference:
            return replace(self, best=best, reference=loss, waited=0)
        return replace(self, best=best, waited=self.waited + 1)

    def finished(self, config: RunConfig) -> bool:
        """Whether all rounds are done, or early stopping ends the run."""
        patient = not config.early_stopping or self.waited < config.early_stopping
        # Layers still to be unfrozen may improve the head.
        deeper = self.trainable != layer_at(config, config.rounds)
        return self.round >= config.training_rounds or not (patient or deeper)


@dataclass(frozen=True)
class Requests:
    """Makes the requests of one run."""

    config: RunConfig
    federation: Federation

    def extra(self, progress: Progress) -> Extra:
        """Return what every request needs to see features as the run does."""
        return {protocol.MOMENTS: progress.arrays[MOMENTS]} if MOMENTS in progress.arrays else {}

    def tasks(
        self, progress: Progress, number: int, candidate: Candidate | None = None
    ) -> Callable[[str], Task]:
        """Return a function from a site to its task of scoring the current head, or a candidate."""
        scored, classes = candidate or progress.last(math.inf, number), self.federation.classes
        settings: Any = {"trainable": scored.trainable, "run": progress.run, "extra": self.extra(progress)}
        return lambda site: Task(site, number, classes, scored.head, **settings)

    def training(self, progress: Progress, number: int, more: Extra) -> Callable[[str], Task]:
        """Return a function from a site to its task of training, with ``more`` next to the head."""
        extra = {**self.extra(progress), **more}
        if beta := self.config.class_balance:
            extra[protocol.CLASS_WEIGHTS] = (class_weights(self.federation.training_images, beta),)
        now, weighting, counted = rate(self.config, number), self.config.weights_of_sites, progress.counted
        return lambda site: Task(
            site, number, self.federation.classes, progress.state.head, weighting, progress.trainable, now,
            progress.run, counted.get(site, 0), extra=extra,
        )  # fmt: skip


def class_weights(images: NDArray[np.int64], beta: float) -> NDArray[np.float32]:
    """Return weights of the C classes, (C,) float32: the rarer a class, the higher its weight.

    Cui et al. 2019, "Class-Balanced Loss Based on Effective Number of Samples" (arXiv 1901.05555):
    n images of a class are worth an effective number of (1 - βⁿ) / (1 - β), and the class is
    weighted by its inverse: from no weighting at β = 0 to the inverse frequency as β → 1. The mean
    over the images is 1, so the learning rate keeps its meaning. Classes without images weigh 0.

    Args:
        images: training images of each class in the whole federation, (C,).
        beta: β in [0, 1).
    """
    present = images > 0
    weights = np.where(present, (1 - beta) / (1 - beta ** np.maximum(images, 1)), 0.0)
    return (weights * images.sum() / (weights * images).sum()).astype(np.float32)
