"""The condition of a connection, in a file: whether it is up, since when, and why not.

The process that holds the connection writes the file, and commands that show a status read it. The
time of the file's last change is the process's pulse, for whoever supervises it.
"""

import json
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fedtransfer.common.support.files import replacement
from fedtransfer.common.support.text import printable

Facts = Mapping[str, float | str]


@dataclass(frozen=True)
class Condition:
    """Whether a connection is up, since when (Unix time), why it is not, and facts about it."""

    up: bool
    since: float
    why: str = ""
    facts: Facts = field(default_factory=dict)
    pulse: float = field(default=0.0, compare=False)  # the last sign of life, Unix time


def read_condition(path: Path) -> Condition | None:
    """Read a condition; None if the file is missing or damaged: it is written again soon."""
    try:
        return Condition(**json.loads(path.read_text("utf-8")) | {"pulse": path.stat().st_mtime})
    except (OSError, ValueError, TypeError):
        return None


def pulse(path: Path) -> int:
    """Return the time of the last sign of life in ns, to be compared with itself; 0 for none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


class ConditionFile:
    """Writes the condition when it changes. A full disk is no reason to end: it writes later."""

    def __init__(self, path: Path) -> None:
        self._path, self._turn = path, threading.Lock()
        self._written = read_condition(path)
        self._current = self._written or Condition(False, time.time())

    def up(self, facts: Facts) -> None:
        """Record that the connection works, with facts about it."""
        self._record(True, "", facts)

    def down(self, why: str) -> None:
        """Record that the connection does not work, and why; facts stay as they were."""
        self._record(False, why, self._current.facts)

    def beat(self) -> None:
        """Show that this process lives, which works on a full disk too."""
        if self._written != self._current:
            self._write()
        with suppress(OSError):
            os.utime(self._path)

    def _record(self, up: bool, why: str, facts: Facts) -> None:
        since = self._current.since if up == self._current.up else time.time()
        self._current = Condition(up, since, printable(why), dict(facts))
        self.beat()

    def _write(self) -> None:
        # Not durable: after a power cut nobody is connected.
        with self._turn, suppress(OSError), replacement(self._path, mode=0o600, durable=False) as temporary:
            current = self._current
            fields = asdict(current)
            del fields["pulse"]  # that is the file's time
            temporary.write_text(json.dumps(fields), "utf-8")
            self._written = current
