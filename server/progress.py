"""Where a run stands after a round: all that the next round depends on, and so what a checkpoint holds.

There is no generator state in it: every random draw is keyed by (seed, purpose, round), so none is carried over.
"""

import math
from dataclasses import dataclass, field, replace

from common.config import RunConfig
from common.head import Arrays
from common.metrics import Counts
from server.standing import Standing
from server.strategies.state import State


@dataclass(frozen=True)
class Candidate:
    """The head to keep so far, the round that it entered, and its federated validation loss."""

    loss: float
    round: int
    head: Arrays


@dataclass(frozen=True)
class Progress:
    """The state between two rounds.

    Attributes:
        round: rounds of training that are done.
        state: the head, and the server optimizer's memory.
        best: the head with the lowest validation loss that entered a round so far.
        reference: the loss that early stopping measures improvement from.
        waited: rounds since the last improvement.
        standing: which sites failed lately.
    """

    round: int
    state: State
    best: Candidate
    reference: float = math.inf
    waited: int = 0
    standing: Standing = field(default_factory=Standing)

    @classmethod
    def begin(cls, state: State) -> "Progress":
        """Stand before the first round."""
        return cls(0, state, Candidate(math.inf, 0, state.head))

    def scored(self, round: int, validation: Counts, config: RunConfig) -> "Progress":
        """Take in the scores of the head that entered a round. Without any validation image nothing is known of it."""
        if not validation.total:
            return self
        loss = validation.mean_loss
        best = Candidate(loss, round, self.state.head) if loss < self.best.loss else self.best
        if loss < self.reference - config.min_delta:
            return replace(self, best=best, reference=loss, waited=0)
        return replace(self, best=best, waited=self.waited + 1)

    def finished(self, config: RunConfig) -> bool:
        """Whether all rounds are done, or early stopping ends the run."""
        return self.round >= config.rounds or bool(config.early_stopping and self.waited >= config.early_stopping)
