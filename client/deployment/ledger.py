"""The append-only log of what left the site: a JSON object a line, each with the hash of the one before.

A line that is changed, or taken out of the middle, no longer fits the next. (Someone who may write the file can still
cut off its end, or write it anew: keep copies elsewhere if that matters.)
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.app import Message

from fedtransfer.common.wire.protocol import GATHER, TRAIN
from fedtransfer.common.wire.records import content_bytes, digest, shapes

_START = "0" * 64


@dataclass(frozen=True)
class Ledger:
    """The log in a file."""

    path: Path

    def write(self, reply: Message, task: dict[str, Any]) -> None:
        """Note an answer before it is handed to SuperNode; on return the line is on disk."""
        last = self._last_line()
        records = reply.content if reply.has_content() else None
        line = {
            "time": time.time(),
            "kind": reply.metadata.message_type,
            **task,
            "bytes": content_bytes(reply) if records else 0,
            "shapes": shapes(records) if records else [],
            "sha256": digest(records) if records else hashlib.sha256().hexdigest(),
            "before": _hash(last.rstrip(b"\n") + b"\n") if last else _START,
        }
        with self.path.open("ab") as file:
            if last and not last.endswith(b"\n"):
                file.write(b"\n")  # a power cut tore that line
            file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the entries, oldest first, without what a power cut tore: that had not left yet."""
        if self.path.exists():
            with self.path.open("rb") as file:
                yield from (entry for line in file if (entry := _entry(line)))

    def rounds_since(self, moment: float) -> int:
        """Count the rounds answered since a time in seconds: those of training, and gatherings of sums."""
        return sum(
            line["time"] >= moment and line["kind"] in (TRAIN, GATHER) and bool(line["shapes"])  # a refusal has none
            for line in self.lines()
        )

    def first_break(self) -> int | None:
        """Return the number of the first line that does not fit the one before; None where all do.

        What a power cut tore fits anywhere, and the line after it must fit it.
        """
        before = _START
        if not self.path.exists():
            return None
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                entry = _entry(line)
                if entry is not None and entry.get("before") != before:
                    return number
                before = _hash(line)
        return None

    def _last_line(self) -> bytes:
        if not self.path.exists() or not self.path.stat().st_size:
            return b""
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - 1_000_000))
            return file.readlines()[-1]


def _entry(line: bytes) -> dict[str, Any] | None:
    """Read a line; None where it is no entry."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
