"""Callbacks observe a run, one per file. Tables are always written, ``--callbacks`` names others.

Write your own as an importable subclass of ``Callback``: ``--callbacks my_module:MyCallback``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.support.plugins import load
from fedtransfer.common.wire.protocol import Answer

NAMED = {"mlflow": "fedtransfer.server.callbacks.mlflow:MLflow"}


@dataclass(frozen=True)
class Start:
    """The facts of a run when its first round begins."""

    config: RunConfig
    folder: Path
    sites: tuple[str, ...]  # names of those that take part
    absent: Mapping[str, str]  # site that takes no part → why
    classes: tuple[str, ...]
    resumed_after: int | None  # the last round of the earlier process, None for a new run


@dataclass(frozen=True)
class Round:
    """A round, or an attempt at one.

    With public images at the server, ``test`` has the counts of the head entering the round on
    these images, and ``validation`` is empty.
    """

    round: int  # 1 … R for rounds of training, 0 before them, R + 1 after them
    attempt: int  # 1, or more if the round was tried again
    phase: str  # ``train``; before it ``sums`` and ``trial``, after it ``score`` and ``personal``
    failure: str  # why the attempt changed nothing; "" if it succeeded
    planned: tuple[str, ...]  # the cohort
    answers: dict[str, Answer]  # in ``train`` and ``score`` with scores of the head entering the round
    refused: dict[str, str]  # site → why its reply was refused
    set_aside: dict[str, int]  # site → the round from which it may be drawn again
    validation: Counts  # summed over the sites
    test: Counts
    seconds: float  # wall time; NaN for a secret cohort, whose size it would reveal
    bytes_down: int  # size of a message to a site
    bytes_up: int  # size of a message from a site
    best: bool  # whether this head has the lowest validation loss so far
    epsilon: float | None = None  # spent so far, under differential privacy
    secret: bool = False  # the cohort is secret, so planned, answers, refused and set_aside are empty
    seconds_aggregating: float = math.nan  # the part of ``seconds`` at the server, outside the exchange

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


class Callback:
    """Observes a run. Methods are called in this order, if defined. An exception ends the run."""

    def on_waiting(self, connected: Sequence[str], wanted: int, seconds: float) -> None:
        """Some of ``wanted`` sites are missing after ``seconds``; ``connected`` are there."""

    def on_preparing(self, site: str, done: int, total: int) -> None:
        """A site prepares its features: ``done`` of ``total`` images went through the backbone."""

    def on_start(self, start: Start) -> None:
        """The sites have joined; the first round is about to begin."""

    def on_round(self, record: Round) -> None:
        """A round, or a failed attempt at one, is over."""

    def flush(self) -> None:
        """Bring what ``on_round`` wrote to the disk: the checkpoint of that round follows.

        It is called in another thread, while the next round may be reported.
        """

    def on_end(self, summary: Mapping[str, Any]) -> None:
        """The run is finished; ``summary`` is what ``summary.json`` holds."""

    def on_error(self, error: BaseException) -> None:
        """The run stops because of ``error``."""

    def close(self) -> None:
        """The run is over, successful or not; always called last."""


def load_callbacks(names: str) -> list[Callback]:
    """Make the callbacks of a comma-separated list, each a short name or ``module:Class``.

    Raises:
        UserError: one cannot be imported, or is not a callback.
    """
    expected = f"{', '.join(NAMED)} or module:Class, installed here"
    given = [name.strip() for name in names.split(",") if name.strip()]
    return [load(NAMED.get(name, name), Callback, "--callbacks", expected) for name in given]
