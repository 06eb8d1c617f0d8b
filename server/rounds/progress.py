"""The progress of a run: all that the next round depends on, so all that a checkpoint holds.

It has no generator state: every random draw is keyed by (seed, purpose, round).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from numpy.typing import NDArray

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.head.schedule import layer_at
from fedtransfer.server.sites.cohort import FailureRecord
from fedtransfer.server.strategies.strategy import State

ArrayGroup = tuple[NDArray, ...]  # type: ignore[type-arg]
MOMENTS = "moments"  # among the further arrays: mean and deviation of the federation's features


@dataclass(frozen=True)
class Candidate:
    """A head that may become the result of the run.

    Attributes:
        loss: its federated validation loss.
        round: the round that it entered.
        head: its arrays.
        trainable: the layer of the backbone from which on they are trained.
    """

    loss: float
    round: int
    head: Arrays
    trainable: str = "head"


@dataclass(frozen=True)
class Progress:
    """The state between two rounds.

    Attributes:
        round: rounds of training that are done.
        state: the head, and the server optimizer's memory.
        best: the head with the lowest validation loss so far.
        reference: the loss that early stopping compares with.
        waited: rounds since the last improvement.
        failure_record: the sites' recent failures.
        trainable: the layer of the backbone from which on the head's arrays are trained.
        run: the run's name at the sites.
        arrays: further arrays by name.
        one_shot: ``ridge`` and ``factor`` of a one-shot head.
        counted: site → the last round in which its update counted, if sites have state from it.
    """

    round: int
    state: State
    best: Candidate
    reference: float = math.inf
    waited: int = 0
    failure_record: FailureRecord = field(default_factory=FailureRecord)
    trainable: str = "head"
    run: str = ""
    arrays: Mapping[str, ArrayGroup] = field(default_factory=dict)
    one_shot: Mapping[str, float] = field(default_factory=dict)
    counted: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def begin(cls, state: State, run: str = "", trainable: str = "head") -> "Progress":
        """Return the progress before the first round."""
        best = Candidate(math.inf, 0, state.head, trainable)
        return cls(0, state, best, trainable=trainable, run=run)

    def last(self, loss: float, round: int) -> Candidate:
        """Return the current head as a candidate."""
        return Candidate(loss, round, self.state.head, self.trainable)

    def scored(self, round: int, validation: Counts, config: RunConfig) -> "Progress":
        """Return the progress after the head entering a round was scored; no change without images."""
        if not validation.total:
            return self
        loss = validation.mean_loss
        best = self.last(loss, round) if loss < self.best.loss else self.best
        if loss < self.reference:
            return replace(self, best=best, reference=loss, waited=0)
        return replace(self, best=best, waited=self.waited + 1)

    def finished(self, config: RunConfig) -> bool:
        """Whether all rounds are done, or early stopping ends the run."""
        patient = not config.early_stopping or self.waited < config.early_stopping
        deeper = self.trainable != layer_at(config, config.rounds)  # layers still to be unfrozen may improve the head
        return self.round >= config.training_rounds or not (patient or deeper)
