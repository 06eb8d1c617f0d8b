"""What looks on at a run. One callback a file; ``--callbacks`` names those that a run has besides the tables.

A callback of your own is a subclass of ``Callback`` that can be imported: ``--callbacks my_module:MyCallback``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.support.plugins import load
from fedtransfer.server.run_folder.records import Round

NAMED = {"mlflow": "fedtransfer.server.callbacks.mlflow:MLflow"}


@dataclass(frozen=True)
class Start:
    """What is known when the first round begins.

    Attributes:
        config: the run's settings.
        folder: the run folder.
        sites: names of the sites that take part.
        absent: what was asked but takes no part → why.
        classes: class names.
        resumed_after: the round after which an earlier process was stopped, None for a new run.
    """

    config: RunConfig
    folder: Path
    sites: tuple[str, ...]
    absent: Mapping[str, str]
    classes: tuple[str, ...]
    resumed_after: int | None


class Callback:
    """Is told what happens, in this order; each method may be left out. What it raises ends the run."""

    def on_waiting(self, connected: Sequence[str], wanted: int, seconds: float) -> None:
        """Some sites are still missing: ``connected`` are there, ``wanted`` are expected, after ``seconds`` of waiting."""

    def on_preparing(self, site: str, done: int, total: int) -> None:
        """A site's features are not all there yet: so many images of those that must be are through the backbone."""

    def on_start(self, start: Start) -> None:
        """The sites have joined; the first round is about to begin."""

    def on_round(self, record: Round) -> None:
        """A round, or an attempt at one that failed, is over."""

    def on_end(self, summary: Mapping[str, Any]) -> None:
        """The run is finished; ``summary`` is what ``summary.json`` holds."""

    def on_error(self, error: BaseException) -> None:
        """The run stops because of ``error``."""

    def close(self) -> None:
        """Called last, whatever happened."""


def load_callbacks(names: str) -> list[Callback]:
    """Make the callbacks that a comma-separated list names: a short name, or ``module:Class``.

    Raises:
        UserError: one cannot be imported, or is no callback.
    """
    expected = f"{', '.join(NAMED)} or module:Class, installed here"
    given = [name.strip() for name in names.split(",") if name.strip()]
    return [load(NAMED.get(name, name), Callback, "--callbacks", expected) for name in given]
