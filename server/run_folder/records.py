"""Records of a run in memory: a round, the outcome."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.features.feature_map import Moments
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.wire.protocol import Answer, Confusion
from fedtransfer.server.rounds.progress import MOMENTS, Candidate, Progress
from fedtransfer.server.sites.federation import Federation


@dataclass(frozen=True)
class Round:
    """A round, or an attempt at one.

    Attributes:
        round: 1 … R for rounds of training, 0 before them, R + 1 after them.
        attempt: 1, or more if the round was tried again.
        phase: ``train``; before it ``sums`` and ``trial``, after it ``score`` and
            ``personal``.
        failure: why the attempt changed nothing; "" if it succeeded.
        planned: the cohort.
        answers: site → its answer; in ``train`` and ``score`` with scores of the head entering the
            round.
        refused: site → why its reply was refused.
        set_aside: site → the round from which it may be drawn again.
        test, validation: the summed counts.
        seconds: wall time; NaN for a secret cohort, whose size it would reveal.
        bytes_down, bytes_up: size of a message to a site, and of one from a site.
        best: whether this head has the lowest validation loss so far.
        epsilon: spent so far, under differential privacy.
        secret: the cohort is secret, so planned, answers, refused and set_aside are empty.
        seconds_aggregating: the part of ``seconds`` at the server, outside the exchange.

    With public images at the server, ``test`` has the counts of the head entering the round on
    these images, and ``validation`` is empty.
    """

    round: int
    attempt: int
    phase: str
    failure: str
    planned: tuple[str, ...]
    answers: dict[str, Answer]
    refused: dict[str, str]
    set_aside: dict[str, int]
    validation: Counts
    test: Counts
    seconds: float
    bytes_down: int
    bytes_up: int
    best: bool
    epsilon: float | None = None
    secret: bool = False
    seconds_aggregating: float = math.nan

    @property
    def scalars(self) -> dict[str, float]:
        """Scores by name, for curves; splits without images are left out."""
        values = {} if self.secret else {"sites": float(len(self.answers))}
        if self.epsilon is not None:
            values["privacy/epsilon"] = self.epsilon
        for split, counts in (("test", self.test), ("validation", self.validation)):
            if counts.total:
                values |= {f"{split}/accuracy": counts.accuracy, f"{split}/loss": counts.mean_loss}
        return values


@dataclass(frozen=True)
class Outcome:
    """The outcome of a federation.

    Attributes:
        best: the best head by validation loss. Without validation images it is the last head. With
            partial participation it is the better of the last head and of the one with the lowest
            loss in its cohort, both scored by all sites.
        progress: the progress after the last round.
        federation: the sites and classes.
        confusion: site → closing scores of the best head, with its confusion matrix on test images.
        undelivered: site → why it did not receive the best head.
        personal: the part of ``summary.json`` on personal heads, or empty.
        privacy: its part on differential privacy, or empty.
        public: counts and confusion matrix of the best head on public images, or None.
        total: under masks, the closing scores over all sites; ``confusion`` is empty then.
    """

    best: Candidate
    progress: Progress
    federation: Federation
    confusion: dict[str, Confusion]
    undelivered: dict[str, str]
    personal: Mapping[str, Any] = field(default_factory=dict)
    privacy: Mapping[str, Any] = field(default_factory=dict)
    public: tuple[Counts, NDArray[np.int64]] | None = None
    total: Confusion | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the head's columns."""
        return self.federation.classes

    @property
    def moments(self) -> Moments | None:
        """Mean and deviation of the federation's features, if it standardises by them."""
        return self.progress.arrays.get(MOMENTS)
