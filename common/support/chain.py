"""A chained log: an append-only file of JSON lines, each with the hash of the line before.

A line that is changed, or taken out of the middle, no longer fits the next line. Who may write the
file can still cut off its end, or write all of it again. So the other side of a federation keeps
the hash of the last line: the coordinator of each site's log (``server/deployment/receipts.py``).
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedtransfer.common.support.files import append_line, read_lines

START = "0" * 64  # the first line has it in place of the hash of the line before
_RECENT = 10_000  # hashes that a follower holds; for an older one the whole file is read


@dataclass(frozen=True)
class Chain:
    """A chained log."""

    path: Path

    def append(self, entry: Mapping[str, Any]) -> str:
        """Add a line, which is on the disk on return; return its hash, in hexadecimal digits.

        Raises:
            OSError: it cannot be written; what it accounts for must not happen.
        """
        line = append_line(self.path, lambda last: {**entry, "before": line_hash(last) if last else START})
        return line_hash(line)

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield the entries, oldest first, without torn lines: what these record did not happen."""
        return (line.row for line in read_lines(self.path) if line.row is not None)

    def first_break(self) -> int | None:
        """Return the number of the first line that does not fit the line before; None if all fit.

        A torn line fits anywhere, and the line after it must fit it.
        """
        before = START
        for number, line in enumerate(read_lines(self.path), 1):
            if line.row is not None and line.row.get("before") != before:
                return number
            before = line_hash(line.content)
        return None

    def last_hash(self) -> str:
        """Return the hash of the last line, ``START`` for an empty log."""
        last = START
        for line in read_lines(self.path):
            last = line_hash(line.content)
        return last

    def contains(self, digest: str) -> bool:
        """Whether a line has this hash."""
        return any(line_hash(line.content) == digest for line in read_lines(self.path))


@dataclass
class Follower:
    """Reads a growing log, each line once."""

    path: Path
    hashes: deque[str] = field(default_factory=lambda: deque(maxlen=_RECENT))  # of the newest lines
    _read: int = 0  # bytes
    _last: bytes = b""  # the last line that was read

    def read(self) -> tuple[bool, list[bytes]]:
        """Return the complete lines since the last call, and whether they are all of the file's.

        They are all of them at the first call, and after the file was replaced or cut.
        """
        if not self.path.exists():
            self._begin()
            return True, []
        with self.path.open("rb") as file:
            file.seek(self._read - len(self._last))
            if file.read(len(self._last)) != self._last:
                self._begin()
                file.seek(0)
            # One without its newline is being written, or torn: its next writer ends it.
            lines = [line for line in file if line.endswith(b"\n")]
        whole = not self._read
        if lines:
            self._read, self._last = self._read + sum(map(len, lines)), lines[-1]
            self.hashes.extend(map(line_hash, lines))
        return whole, lines

    def _begin(self) -> None:
        self._read, self._last = 0, b""
        self.hashes.clear()


def line_hash(line: bytes) -> str:
    """Return the SHA-256 of a line with its newline."""
    return hashlib.sha256(line).hexdigest()
