"""The log of what left a site: an append-only file of JSON lines.

Each line has the hash of the line before. A line that is changed, or taken out of the middle, no
longer fits the next line. Someone who may write the file can still cut off its end, or write all of
it again; keep copies elsewhere if that matters.
"""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.app import Message

from fedtransfer.common.support.files import append_line, read_lines
from fedtransfer.common.support.text import printable
from fedtransfer.common.wire.protocol import GATHER, TRAIN
from fedtransfer.common.wire.records import content_bytes, digest, shapes

KIND = 40  # characters of a message's kind
_START = "0" * 64


@dataclass(frozen=True)
class ExchangeLog:
    """The log of the messages that left a site."""

    path: Path

    def write(self, reply: Message, task: dict[str, Any]) -> None:
        """Record an answer before it is handed to SuperNode; on return the line is on disk.

        Raises:
            OSError: the line cannot be written; the answer must not leave.
        """
        records = reply.content if reply.has_content() else None
        entry = {
            "time": time.time(),
            "kind": printable(reply.metadata.message_type, KIND),
            **task,
            "bytes": content_bytes(reply) if records else 0,
            "shapes": shapes(records) if records else [],
            "sha256": digest(records) if records else hashlib.sha256().hexdigest(),
        }
        append_line(self.path, lambda last: {**entry, "before": _hash(last) if last else _START})

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield the entries, oldest first, without torn lines: what these record had not left."""
        return (line.row for line in read_lines(self.path) if line.row is not None)

    def rounds_since(self, moment: float) -> int:
        """Count the rounds of training and of sums that were answered since a time in seconds."""
        return sum(
            entry["time"] >= moment and entry["kind"] in (TRAIN, GATHER) and bool(entry["shapes"])
            for entry in self.entries()  # a refusal has no shapes
        )

    def first_break(self) -> int | None:
        """Return the number of the first line that does not fit the line before; None if all fit.

        A torn line fits anywhere, and the line after it must fit it.
        """
        before = _START
        for number, line in enumerate(read_lines(self.path), 1):
            if line.row is not None and line.row.get("before") != before:
                return number
            before = _hash(line.content)
        return None


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
