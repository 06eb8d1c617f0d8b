"""Refusals: what the gate answers, and its register of them by site, for status and logs."""

import json
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedtransfer.common.support.files import append_line
from fedtransfer.common.support.processes import rotate

UNAUTHORIZED, FORBIDDEN, NOT_OPEN, FAILED, BUSY = 401, 403, 404, 500, 503
ERROR_CODE = 9000  # in Flower's form of an error, where Flower's numbers end before
FILE = "refusals.jsonl"
PAUSE_SECONDS = 60.0  # between two lines about one site and one reason
SHOW_SECONDS = 24 * 3600.0


class Refusal(Exception):
    """A request that the gate does not pass on.

    The text holds nothing of the sender's choice, since it is counted and printed.

    Attributes:
        status: of HTTP. SuperNode ends at 401, drops the message at 403, and tries again at 503.
        instruction: id of the message to the site that it answered wrongly, "" otherwise.
    """

    def __init__(self, status: int, text: str, instruction: str = "") -> None:
        super().__init__(text)
        self.status, self.text, self.instruction = status, text, instruction

    @property
    def body(self) -> bytes:
        """The refusal in Flower's form."""
        return json.dumps({"code": ERROR_CODE, "detail": self.text}).encode()


@dataclass
class _Count:
    """How often something was refused since the last line about it, and when that was."""

    number: int = 0
    time: float = -math.inf


class Register:
    """Writes refusals to a file: the first at once, then their number once a minute."""

    def __init__(self, state: Path) -> None:
        self._path = state / FILE
        self._counts: dict[tuple[str, str], _Count] = {}

    def note(self, site: str, why: str) -> None:
        """Record that a site's request was refused; "" stands for who has no enrolled key."""
        count, now = self._counts.setdefault((site, why), _Count()), time.monotonic()
        count.number += 1
        if now - count.time < PAUSE_SECONDS:
            return
        row = {"time": time.time(), "site": site, "why": why, "times": count.number}
        with suppress(OSError):  # a full disk is no reason to let anything through
            rotate(self._path)
            append_line(self._path, row, durable=False)
        count.number, count.time = 0, now


def recent_refusals(state: Path, seconds: float = SHOW_SECONDS) -> list[dict[str, Any]]:
    """Return what was refused lately: site, why, how many times, and the last time (Unix)."""
    path, since = state / FILE, time.time() - seconds
    total: dict[tuple[str, str], dict[str, Any]] = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        with suppress(ValueError, KeyError, TypeError):  # a torn line
            row: Mapping[str, Any] = json.loads(line)
            if row["time"] > since:
                key = (row["site"], row["why"])
                entry = total.setdefault(key, {"site": key[0], "why": key[1], "times": 0, "last": 0.0})
                entry["times"] += row["times"]
                entry["last"] = row["time"]
    return list(total.values())
