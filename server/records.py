"""What a run leaves in memory: the record of a round, and the outcome."""

from dataclasses import dataclass

from common.head import Arrays
from common.metrics import Counts
from common.protocol import Confusion, Description, Scores


@dataclass(frozen=True)
class Round:
    """What is known after a round, or after an attempt at one.

    Attributes:
        round: 1 … R for rounds of training, one more for the closing scoring round.
        attempt: 1, or more where the round had to be tried again.
        phase: ``train`` or ``score``.
        failure: why the attempt changed nothing; "" for a good one.
        planned: the cohort.
        scores: site → its scores of the head that entered the round.
        refused: site → why its reply was left out.
        set_aside: site → the round from which it may be drawn again.
        test, validation: the summed counts.
        seconds: wall time.
        bytes_down, bytes_up: what a message to a site carries, and one from a site, in bytes.
        best: whether this head has the lowest validation loss so far.
    """

    round: int
    attempt: int
    phase: str
    failure: str
    planned: tuple[str, ...]
    scores: dict[str, Scores]
    refused: dict[str, str]
    set_aside: dict[str, int]
    validation: Counts
    test: Counts
    seconds: float
    bytes_down: int
    bytes_up: int
    best: bool

    @property
    def scalars(self) -> dict[str, float]:
        """The scores by name, as curves are drawn of them; those of a split without images are left out."""
        values = {"sites": float(len(self.scores))}
        for split, counts in (("test", self.test), ("validation", self.validation)):
            if counts.total:
                values |= {f"{split}/accuracy": counts.accuracy, f"{split}/loss": counts.mean_loss}
        return values


@dataclass(frozen=True)
class Outcome:
    """What a federation ends with.

    Attributes:
        head: the best head by validation loss (the last where no site has validation images; with partial
            participation, the better of the last and of the best by its cohort's loss, both scored by all sites).
        last: the head after the last round.
        classes: class names in the order of the head's columns.
        best_round: the round that the best head entered.
        rounds: rounds of training that were run.
        confusion: site → closing scores of the best head with the confusion matrix on the site's test images.
        descriptions: site → what it said of its images.
        absent: what was asked at the start but took no part → why.
        undelivered: site → why it does not hold the result.
    """

    head: Arrays
    last: Arrays
    classes: tuple[str, ...]
    best_round: int
    rounds: int
    confusion: dict[str, Confusion]
    descriptions: dict[str, Description]
    absent: dict[str, str]
    undelivered: dict[str, str]
