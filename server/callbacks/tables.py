"""``history.csv``, a row per attempt at a round, and ``sites.csv``, a row per attempt and site."""

import csv
import io
import os
from pathlib import Path
from typing import IO, Any

from fedtransfer.common.errors import UserError
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.support.files import write_whole
from fedtransfer.common.support.spreadsheet import SheetWriter
from fedtransfer.common.wire.protocol import Scores
from fedtransfer.server.callbacks import Callback, Round, Start

HISTORY = (
    "round", "attempt", "phase", "status", "accuracy", "loss", "validation_accuracy", "validation_loss",
    "sites_planned", "sites_present", "sites_set_aside", "best_so_far", "bytes_down_per_site",
    "bytes_up_per_site", "epsilon", "seconds", "seconds_aggregating",
)  # fmt: skip
SITES = (
    "round", "attempt", "site", "status", "examples", "accuracy", "loss", "test_images",
    "validation_accuracy", "validation_loss", "validation_images",
)  # fmt: skip

_SET_ASIDE = "set aside until round"


class Tables(Callback):
    """Writes both tables. A resumed run continues them after its last checkpoint."""

    def __init__(self) -> None:
        self._files: list[IO[str]] = []

    def on_start(self, start: Start) -> None:
        """Open the tables."""
        self._history = self._open(start.folder / "history.csv", HISTORY, start.resumed_after)
        self._sites = self._open(start.folder / "sites.csv", SITES, start.resumed_after)

    def on_round(self, record: Round) -> None:
        """Add a round."""
        sites = [len(names) for names in (record.planned, record.answers, record.set_aside)]
        epsilon = "" if record.epsilon is None else f"{record.epsilon:.6g}"
        seconds = (
            ["", ""] if record.secret else [f"{s:.4f}" for s in (record.seconds, record.seconds_aggregating)]
        )
        self._history.writerow(
            [
                record.round, record.attempt, record.phase, record.failure or "ok", *_scores(record.test),
                *_scores(record.validation), *([""] * len(sites) if record.secret else sites),
                int(record.best), record.bytes_down, record.bytes_up, epsilon, *seconds,
            ]
        )  # fmt: skip
        for site in record.planned:
            row = [record.round, record.attempt, site]
            if (answer := record.answers.get(site)) is None:
                row += [record.refused.get(site, "")]
            else:
                row += ["ok", getattr(answer, "examples", "")]
            if isinstance(answer, Scores):
                row += [*_scores(answer.test), answer.test.total]
                row += [*_scores(answer.validation), answer.validation.total]
            self._sites.writerow([*row, *[""] * (len(SITES) - len(row))])
        for site, back in record.set_aside.items():
            if site not in record.planned:
                self._sites.writerow([record.round, record.attempt, site, f"{_SET_ASIDE} {back}"])
        for file in self._files:
            file.flush()

    def flush(self) -> None:
        """Bring ``history.csv`` to the disk: a checkpoint without it cannot be resumed."""
        os.fsync(self._files[0].fileno())

    def close(self) -> None:
        """Close the tables."""
        for file in self._files:
            file.close()

    def _open(self, path: Path, columns: tuple[str, ...], resumed_after: int | None) -> SheetWriter:
        rows = [] if resumed_after is None else _rows_up_to(path, columns, resumed_after)
        text = io.StringIO(newline="")
        SheetWriter(text).writerows([columns, *rows])
        write_whole(path, text.getvalue())
        self._files.append(path.open("a", newline="", encoding="utf-8"))
        return SheetWriter(self._files[-1])


def read_history(folder: Path) -> list[dict[str, str]]:
    """Read ``history.csv`` of a run folder, one dict per row."""
    with (folder / "history.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_left_out(folder: Path) -> dict[str, dict[str, Any]]:
    """Read from ``sites.csv`` how often each site was left out of an attempt, and why at last."""
    left_out: dict[str, dict[str, Any]] = {}
    with (folder / "sites.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["status"] != "ok" and not row["status"].startswith(_SET_ASIDE):
                times = left_out.get(row["site"], {"times": 0})["times"] + 1
                left_out[row["site"]] = {"times": times, "reason": row["status"]}
    return left_out


def _rows_up_to(path: Path, columns: tuple[str, ...], last: int) -> list[list[str]]:
    """Read the rows up to round ``last``, without what a kill may have left after these."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = [row for row in csv.reader(file) if row]
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); it is needed to resume the run") from None
    if header != list(columns):
        foreign = "its columns are not those that this fedtransfer writes"
        raise UserError(f"{path}: {foreign}; resume with the version that wrote it")
    former = [row for row in rows if row[0].isdigit() and int(row[0]) <= last and len(row) > 3]
    expected = range(1, last + 1) if columns == HISTORY else ()  # a round may have no sites, or secret ones
    if missing := set(expected) - {int(row[0]) for row in former}:
        raise UserError(f"{path}: lacks round {min(missing)}, which the checkpoint of round {last} builds on")
    return former


def _scores(counts: Counts) -> list[str]:
    return [f"{counts.accuracy:.6f}", f"{counts.mean_loss:.6f}"] if counts.total else ["", ""]
