"""What a run leaves in memory: the record of a round, and the outcome."""

import math
from collections.abc import Mapping, Sequence
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
    """What is known after a round, or after an attempt at one.

    Attributes:
        round: 1 … R for rounds of training, 0 for what comes before them, one more for what comes after.
        attempt: 1, or more where the round had to be tried again.
        phase: ``train``; before that ``sums`` and ``trial``, after it ``score``, ``trial`` and ``personal``.
        failure: why the attempt changed nothing; "" for a good one.
        planned: the cohort.
        answers: site → what it answered; in ``train`` and ``score`` also its scores of the head that entered the round.
        refused: site → why its reply was left out.
        set_aside: site → the round from which it may be drawn again.
        test, validation: the summed counts.
        seconds: wall time; NaN where it would tell how many sites a secret cohort had.
        bytes_down, bytes_up: what a message to a site carries, and one from a site, in bytes.
        best: whether this head has the lowest validation loss so far.
        epsilon: spent so far, under differential privacy.
        secret: who was in the round, and how many, is kept secret: planned, answers, refused and set_aside are empty.
        seconds_aggregating: of ``seconds``, those at the server outside the exchange.

    With public images at the server, ``test`` counts how the head that entered the round does on these, and ``validation``
    is empty.
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
        """The scores by name, as curves are drawn of them; those of a split without images are left out."""
        values = {} if self.secret else {"sites": float(len(self.answers))}
        if self.epsilon is not None:
            values["privacy/epsilon"] = self.epsilon
        for split, counts in (("test", self.test), ("validation", self.validation)):
            if counts.total:
                values |= {f"{split}/accuracy": counts.accuracy, f"{split}/loss": counts.mean_loss}
        return values


@dataclass(frozen=True)
class Point:
    """A head between two, and how it did.

    Attributes:
        curve: which two (``fedtransfer.server.rounds.after.interpolate``).
        share: of the second.
        validation, test: (accuracy, loss) on the images of all sites; NaN without any.
    """

    curve: str
    share: float
    validation: tuple[float, float]
    test: tuple[float, float]


@dataclass(frozen=True)
class Outcome:
    """What a federation ends with.

    Attributes:
        best: the best head by validation loss (the last where no site has validation images; with partial
            participation, the better of the last and of the best by its cohort's loss, both scored by all sites).
        progress: where the run stands after the last round.
        federation: the sites and classes.
        confusion: site → closing scores of the best head with the confusion matrix on the site's test images.
        undelivered: site → why it does not hold the result.
        points: of the interpolation curves.
        personal: what ``summary.json`` says of personal heads; empty where there are none.
        privacy: what it says of differential privacy; empty where nothing is promised.
        total: under masks, the closing scores of all sites that are in them together; ``confusion`` is empty then.
        public: how the best head does on public images, and the confusion matrix; None where there are none.
    """

    best: Candidate
    progress: Progress
    federation: Federation
    confusion: dict[str, Confusion]
    undelivered: dict[str, str]
    points: Sequence[Point] = ()
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
        """The federation's mean and deviation of features, where it standardises by them."""
        return self.progress.kept.get(MOMENTS)
