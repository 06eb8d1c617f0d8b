"""The run folder: what a run leaves behind, enough to read it, to use it and to repeat it.

config.toml    the resolved config          history.csv  a row a round
summary.json   the scores at the end        sites.csv    a row a site and round
model.keras    image in, probabilities out  head.npz     the head's arrays
curves.png     accuracy and loss by round   tensorboard/ the same as events
sites/NAME/    what each simulated site holds
"""

import csv
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from common.config import RunConfig
from common.errors import UserError
from server.rounds import Round

HISTORY = (
    "round",
    "phase",
    "accuracy",
    "loss",
    "validation_accuracy",
    "validation_loss",
    "sites_planned",
    "sites_present",
    "best_so_far",
    "bytes_down_per_site",
    "bytes_up_per_site",
    "seconds",
)
SITES = (
    "round",
    "site",
    "status",
    "examples",
    "accuracy",
    "loss",
    "test_images",
    "validation_accuracy",
    "validation_loss",
    "validation_images",
)


class RunFolder:
    """A run folder being written; also an observer of rounds. Use it as a context manager."""

    def __init__(self, path: Path, config: RunConfig) -> None:
        if (path / "history.csv").exists():
            raise UserError(
                f"run folder {path} already holds a run; choose another --out, or give --force to replace it"
            )
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._rounds = config.rounds
        # Without its own place, so that a run repeated from this file gets a new folder.
        write_whole(path / "config.toml", config.model_copy(update={"out": ""}).to_toml())
        self._history, self._history_file = _table(path / "history.csv", HISTORY)
        self._sites, self._sites_file = _table(path / "sites.csv", SITES)
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._events = EventFileWriter(str(path / "tensorboard"))

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *error: object) -> None:
        for file in (self._history_file, self._sites_file, self._events):
            file.close()

    def __call__(self, record: Round) -> None:
        """Add a round to history, sites and events."""
        phase = "train" if record.round <= self._rounds else "score"
        self._history.writerow(
            [
                record.round,
                phase,
                *_scores(record.test),
                *_scores(record.validation),
                len(record.planned),
                len(record.scores),
                int(record.best),
                round(record.bytes_down),
                round(record.bytes_up),
                f"{record.seconds:.4f}",
            ]
        )
        for site in record.planned:
            if (scores := record.scores.get(site)) is not None:
                self._sites.writerow(
                    [
                        record.round,
                        site,
                        "ok",
                        getattr(scores, "examples", ""),
                        *_scores(scores.test),
                        scores.test.total,
                        *_scores(scores.validation),
                        scores.validation.total,
                    ]
                )
            else:
                self._sites.writerow([record.round, site, record.refused.get(site, "")])
        self._history_file.flush()
        self._sites_file.flush()
        self._events.add_event(_event(record))


def _event(record: Round) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = {"sites": float(len(record.scores))}
    for split, counts in (("test", record.test), ("validation", record.validation)):
        if counts.total:
            values |= {f"{split}/accuracy": counts.accuracy, f"{split}/loss": counts.mean_loss}
    scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    return Event(wall_time=time.time(), step=record.round, summary=Summary(value=scalars))


def check_folder(path: Path, *, force: bool) -> None:
    """Check that ``path`` can take a new run, or holds one that ``force`` lets ``clear_folder`` remove.

    Raises:
        UserError: something is there already, and it is not a run or ``force`` is not set.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / "config.toml").is_file():
        raise UserError(f"{path} exists and is not a run folder; choose another --out")
    if not force:
        raise UserError(f"run folder {path} already exists; choose another --out, or give --force to replace it")


def clear_folder(path: Path) -> None:
    """Remove the run that ``check_folder`` found; called late, so that a run that cannot start replaces nothing."""
    if path.exists():
        shutil.rmtree(path)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, "utf-8")
    os.replace(temporary, path)


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write ``summary.json``; a score that does not exist (no such images) is null."""
    write_whole(path / "summary.json", json.dumps(plain(summary), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_summary(path: Path) -> dict[str, Any]:
    """Read a run folder's ``summary.json``."""
    return json.loads((path / "summary.json").read_text("utf-8"))


def plain(value: Any) -> Any:
    """Replace NaN by None throughout, since JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and value != value else value


def _scores(counts: Any) -> list[str]:
    return [f"{counts.accuracy:.6f}", f"{counts.mean_loss:.6f}"] if counts.total else ["", ""]


def _table(path: Path, columns: tuple[str, ...]) -> tuple[Any, IO[str]]:
    file = path.open("w", newline="", encoding="utf-8")
    writer = csv.writer(file)
    writer.writerow(columns)
    return writer, file
