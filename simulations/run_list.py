"""The list of runs in a folder: their settings, and their results."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedtransfer.common.config.config import read_config
from fedtransfer.common.errors import UserError
from fedtransfer.simulations.report.reading import Run, read_folder, real


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        folder: the run folder.
        data, strategy: settings.
        rounds: rounds of training; for an unfinished run, those planned.
        sites: number of sites.
        accuracy, balanced_accuracy: of the head, on the test images of all sites; NaN if unknown.
        bytes: received and sent by a site over the whole run; NaN if unfinished.
        epsilon: ε spent; infinite without differential privacy.
        when: the time it finished or, if unfinished, began (ISO 8601, UTC).
        finished: whether it has a ``summary.json``.
    """

    folder: str
    data: str
    strategy: str
    rounds: int
    sites: int
    accuracy: float
    balanced_accuracy: float
    bytes: float
    epsilon: float
    when: str
    finished: bool


def list_runs(folder: Path) -> list[Row]:
    """List the runs in a folder and below, the newest last, without those of benchmarks.

    Raises:
        UserError: there is no such folder, or a run in it cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one with run folders in it, such as runs")
    return sorted((_row(run) for run in _runs(folder)), key=lambda row: row.when)


def balanced_accuracy(run: Run) -> float:
    """Return the mean over classes of the share that a run's head gets right; NaN if unknown."""
    return real(run.measured.get("balanced_accuracy", run.measured.get("macro_recall")))


def _runs(folder: Path) -> Iterator[Path]:
    """Yield the run folders. A run folder holds no other runs."""
    if (folder / "config.toml").is_file():
        yield folder
    elif not (folder / "benchmark.json").is_file():
        for entry in sorted(folder.iterdir()):
            if entry.is_dir() and not entry.name.startswith("."):
                yield from _runs(entry)


def _row(folder: Path) -> Row:
    finished = (folder / "summary.json").is_file()
    moment = (folder / ("summary.json" if finished else "config.toml")).stat().st_mtime
    when = datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
    run = read_folder(folder) if finished else None
    if not isinstance(run, Run):
        config, nan = read_config(folder / "config.toml"), float("nan")
        return Row(
            str(folder), config.data, config.strategy, config.training_rounds, config.participants, nan, nan, nan, nan, when,
            finished=False,
        )  # fmt: skip
    return Row(
        str(folder), run.config.data, run.config.strategy, run.summary["rounds"], run.summary["sites"], run.accuracy,
        balanced_accuracy(run), sum(run.bytes), run.epsilon, when, finished=True,
    )  # fmt: skip
