"""The progress of a run: all that the next round depends on, so all that a checkpoint holds.

It has no generator state: every random draw is keyed by (seed, purpose, round).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.depth import layer_at
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.head.metrics import Counts
from fedtransfer.server.sites.cohort import FailureRecord
from fedtransfer.server.strategies.state import Delta, State, moved

ArrayGroup = tuple[NDArray, ...]  # type: ignore[type-arg]
# Names of the further arrays that pass from round to round
MOMENTS, FIRST, BEFORE, AVERAGE, EMA = "moments", "first", "before", "average", "ema"
CLIP = "clip"  # clip norm of the next round, if it adapts


@dataclass(frozen=True)
class Candidate:
    """A head that may become the result of the run.

    Attributes:
        loss: its federated validation loss.
        round: the round that it entered.
        head: its arrays.
        trainable: the layer of the backbone from which on they are trained.
        mixed: for a mix of two heads, its curve and its share of the second; "" for a round's head.
    """

    loss: float
    round: int
    head: Arrays
    trainable: str = "head"
    mixed: str = ""


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
    def begin(cls, state: State, config: RunConfig, run: str = "", trainable: str = "head") -> "Progress":
        """Return the progress before the first round."""
        arrays: dict[str, ArrayGroup] = {FIRST: state.head} if config.interpolate else {}
        if config.ema:
            arrays[EMA] = tuple(array.astype(np.float64) for array in state.head)
        if config.clip_quantile:
            arrays[CLIP] = (np.array(config.clip),)
        best = Candidate(math.inf, 0, state.head, trainable)
        return cls(0, state, best, trainable=trainable, run=run, arrays=arrays)

    def clip(self, config: RunConfig) -> float:
        """Return the clip norm of updates in the next round, under differential privacy of sites."""
        return float(self.arrays[CLIP][0]) if CLIP in self.arrays else config.clip

    def last(self, loss: float, round: int) -> Candidate:
        """Return the current head as a candidate."""
        return Candidate(loss, round, self.state.head, self.trainable)

    def scored(self, round: int, validation: Counts, config: RunConfig) -> "Progress":
        """Return the progress after the head entering a round was scored; no change without images."""
        if not validation.total:
            return self
        loss = validation.mean_loss
        best = self.last(loss, round) if loss < self.best.loss else self.best
        if loss < self.reference - config.min_delta:
            return replace(self, best=best, reference=loss, waited=0)
        return replace(self, best=best, waited=self.waited + 1)

    def stepped(self, round: int, state: State, delta: Delta, config: RunConfig) -> "Progress":
        """Return the progress after a round that led to ``state`` by the combined update ``delta``."""
        arrays = dict(self.arrays)
        if config.interpolate:
            arrays[BEFORE], arrays[AVERAGE] = (
                self.state.head,
                moved(self.state.head, delta[: len(self.state.head)], 1.0),
            )
        if config.ema:  # a running mean (Polyak), in float64: decay · mean + (1 - decay) · head
            # It begins as the plain mean of the heads so far, without the very first head.
            decay = min(config.ema, (round - 1) / round)
            arrays[EMA] = tuple(
                decay * mean + (1 - decay) * array for mean, array in zip(arrays[EMA], state.head, strict=True)
            )
        return replace(self, round=round, state=state, arrays=arrays)

    def finished(self, config: RunConfig) -> bool:
        """Whether all rounds are done, or early stopping ends the run."""
        patient = not config.early_stopping or self.waited < config.early_stopping
        deeper = self.trainable != layer_at(config, config.rounds)  # layers still to be unfrozen may improve the head
        return self.round >= config.training_rounds or not (patient or deeper)
