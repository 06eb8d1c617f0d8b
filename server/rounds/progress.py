"""Where a run stands after a round: all that the next round depends on, and so what a checkpoint holds.

There is no generator state in it: every random draw is keyed by (seed, purpose, round), so none is carried over.
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
from fedtransfer.server.sites.standing import Standing
from fedtransfer.server.strategies.state import Delta, State, moved

Kept = tuple[NDArray, ...]  # type: ignore[type-arg]
# Arrays that are kept from round to round beside the state, by name
MOMENTS, FIRST, BEFORE, AVERAGE, EMA = "moments", "first", "before", "average", "ema"
CLIP = "clip"  # the bound of updates' norms in the next round, where it adapts


@dataclass(frozen=True)
class Candidate:
    """The head to keep so far.

    Attributes:
        loss: its federated validation loss.
        round: the round that it entered.
        head: its arrays.
        trainable: from which layer of the backbone on they are.
        mixed: of which two heads it is a mix, and in which share of the second; "" for a head as a round made it.
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
        best: the head with the lowest validation loss that entered a round so far.
        reference: the loss that early stopping measures improvement from.
        waited: rounds since the last improvement.
        standing: which sites failed lately.
        trainable: from which layer of the backbone on the head's arrays are.
        run: names the run at the sites.
        kept: further arrays by name.
        chosen: what was chosen for a one-shot head.
        counted: site → the last round in which its update counted, where sites have a state that follows from it.
    """

    round: int
    state: State
    best: Candidate
    reference: float = math.inf
    waited: int = 0
    standing: Standing = field(default_factory=Standing)
    trainable: str = "head"
    run: str = ""
    kept: Mapping[str, Kept] = field(default_factory=dict)
    chosen: Mapping[str, float] = field(default_factory=dict)
    counted: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def begin(cls, state: State, config: RunConfig, run: str = "", trainable: str = "head") -> "Progress":
        """Stand before the first round."""
        kept: dict[str, Kept] = {FIRST: state.head} if config.interpolate else {}
        if config.ema:
            kept[EMA] = tuple(array.astype(np.float64) for array in state.head)
        if config.clip_quantile:
            kept[CLIP] = (np.array(config.clip),)
        best = Candidate(math.inf, 0, state.head, trainable)
        return cls(0, state, best, trainable=trainable, run=run, kept=kept)

    def clip(self, config: RunConfig) -> float:
        """Return the bound of updates' norms in the next round, under differential privacy of sites."""
        return float(self.kept[CLIP][0]) if CLIP in self.kept else config.clip

    def last(self, loss: float, round: int) -> Candidate:
        """Return the head that the run stands at, as the one to keep."""
        return Candidate(loss, round, self.state.head, self.trainable)

    def scored(self, round: int, validation: Counts, config: RunConfig) -> "Progress":
        """Take in the scores of the head that entered a round. Without any validation image nothing is known of it."""
        if not validation.total:
            return self
        loss = validation.mean_loss
        best = self.last(loss, round) if loss < self.best.loss else self.best
        if loss < self.reference - config.min_delta:
            return replace(self, best=best, reference=loss, waited=0)
        return replace(self, best=best, waited=self.waited + 1)

    def stepped(self, round: int, state: State, delta: Delta, config: RunConfig) -> "Progress":
        """Take in what a round made of the head."""
        kept = dict(self.kept)
        if config.interpolate:
            kept[BEFORE], kept[AVERAGE] = self.state.head, moved(self.state.head, delta[: len(self.state.head)], 1.0)
        if config.ema:  # a running mean (Polyak), in float64: decay · mean + (1 - decay) · head
            # At first it is the plain mean of the heads so far, so that the first head of all has no share in it.
            decay = min(config.ema, (round - 1) / round)
            kept[EMA] = tuple(
                decay * mean + (1 - decay) * array for mean, array in zip(kept[EMA], state.head, strict=True)
            )
        return replace(self, round=round, state=state, kept=kept)

    def finished(self, config: RunConfig) -> bool:
        """Whether all rounds are done, or early stopping ends the run."""
        patient = not config.early_stopping or self.waited < config.early_stopping
        deeper = self.trainable != layer_at(config, config.rounds)  # what is still to be unfrozen may improve on it
        return self.round >= config.training_rounds or not (patient or deeper)
