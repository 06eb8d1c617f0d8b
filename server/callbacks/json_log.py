"""``--log-json FILE``: events of a run for other programs, one JSON object per line."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.text import plain
from fedtransfer.server.callbacks import Callback, Round, Start


class JsonLog(Callback):
    """Appends events to a file, or writes them to standard error if its name is ``-``."""

    def __init__(self, path: str) -> None:
        file = Path(path).expanduser()
        try:
            self._file: IO[str] = sys.stderr if path == "-" else file.open("a", encoding="utf-8")
        except OSError as error:
            remedy = "name a file in a folder that can be written"
            raise UserError(f"--log-json {path}: {error.strerror}; {remedy}") from None

    def on_waiting(self, connected: Sequence[str], wanted: int, seconds: float) -> None:
        """Write which sites are connected already."""
        self._write("waiting", connected=connected, wanted=wanted, seconds=round(seconds))

    def on_preparing(self, site: str, done: int, total: int) -> None:
        """Write how far a site's features are."""
        self._write("preparing", site=site, done=done, total=total)

    def on_start(self, start: Start) -> None:
        """Write which sites take part."""
        self._write(
            "start", folder=str(start.folder), sites=start.sites, absent=dict(start.absent),
            classes=start.classes, rounds=start.config.rounds, resumed_after=start.resumed_after,
        )  # fmt: skip

    def on_round(self, record: Round) -> None:
        """Write the scores, sites and bytes of a round."""
        sites: dict[str, Any] = {"planned": record.planned, "present": sorted(record.answers)}
        sites |= {"refused": record.refused, "set_aside": record.set_aside}
        self._write(
            "round", round=record.round, attempt=record.attempt, phase=record.phase, failure=record.failure,
            **({} if record.secret else sites), epsilon=record.epsilon, accuracy=record.test.accuracy,
            loss=record.test.mean_loss, validation_accuracy=record.validation.accuracy,
            validation_loss=record.validation.mean_loss, best=record.best, seconds=round(record.seconds, 4),
            bytes_down=record.bytes_down, bytes_up=record.bytes_up,
        )  # fmt: skip

    def on_end(self, summary: Mapping[str, Any]) -> None:
        """Write the scores of the result."""
        scores = ("accuracy", "loss", "scored_on", "worst_site_accuracy")
        keys = (*scores, "best_round", "rounds", "stopped_early", "seconds")
        self._write("end", **{key: summary[key] for key in keys})

    def on_error(self, error: BaseException) -> None:
        """Write why the run stops."""
        self._write("error", kind=type(error).__name__, text=str(error))

    def close(self) -> None:
        """Close the file."""
        if self._file is not sys.stderr:
            self._file.close()

    def _write(self, event: str, **values: Any) -> None:
        line = {"event": event, "time": round(time.time(), 3), **plain(values)}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()
