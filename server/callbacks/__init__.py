"""Callbacks observe a run, one per file. Tables are always written, ``--callbacks`` names others.

Write your own as an importable subclass of ``Callback``: ``--callbacks my_module:MyCallback``.
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
    """The facts of a run when its first round begins.

    Attributes:
        config: the run's settings.
        folder: the run folder.
        sites: names of the sites that take part.
        absent: site that takes no part → why.
        classes: class names.
        resumed_after: the last round of the earlier process, None for a new run.
    """

    config: RunConfig
    folder: Path
    sites: tuple[str, ...]
    absent: Mapping[str, str]
    classes: tuple[str, ...]
    resumed_after: int | None


class Callback:
    """Observes a run. Methods are called in this order; each is optional. An exception ends the run."""

    def on_waiting(self, connected: Sequence[str], wanted: int, seconds: float) -> None:
        """Some of ``wanted`` sites are missing after ``seconds``; ``connected`` are there."""

    def on_preparing(self, site: str, done: int, total: int) -> None:
        """A site is preparing its features: ``done`` of ``total`` images went through the backbone."""

    def on_start(self, start: Start) -> None:
        """The sites have joined; the first round is about to begin."""

    def on_round(self, record: Round) -> None:
        """A round, or a failed attempt at one, is over."""

    def on_end(self, summary: Mapping[str, Any]) -> None:
        """The run is finished; ``summary`` is what ``summary.json`` holds."""

    def on_error(self, error: BaseException) -> None:
        """The run stops because of ``error``."""

    def close(self) -> None:
        """The run is over, successful or not; always called last."""


def load_callbacks(names: str) -> list[Callback]:
    """Make the callbacks named in a comma-separated list, each by a short name or as ``module:Class``.

    Raises:
        UserError: one cannot be imported, or is not a callback.
    """
    expected = f"{', '.join(NAMED)} or module:Class, installed here"
    given = [name.strip() for name in names.split(",") if name.strip()]
    return [load(NAMED.get(name, name), Callback, "--callbacks", expected) for name in given]
