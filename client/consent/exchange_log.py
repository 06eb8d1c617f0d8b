"""The log of what left a site, ``sent.jsonl``: a chained log (``common/support/chain.py``).

An answer carries the hash of its line to the coordinator, which sends the last one that it has with
its next message (``client/consent/countersignature.py``). So a log that lost its end shows.
"""

import hashlib
import json
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from flwr.app import Message

from fedtransfer.common.support.chain import START, Chain, Follower
from fedtransfer.common.support.text import printable
from fedtransfer.common.wire.protocol import GATHER, TRAIN
from fedtransfer.common.wire.records import LOG, content_bytes, digest, refusal_code, shapes, stamp

KIND = 40  # characters of a message's kind
DAY = 24 * 3600.0
_NO_CONTENT = "no-answer"  # stands for the code of a refusal where Flower reports an error


@dataclass(frozen=True)
class ExchangeLog:
    """The log of the messages that left a site."""

    path: Path

    def write(self, reply: Message, task: dict[str, Any]) -> None:
        """Record an answer before it is handed to SuperNode; on return the line is on disk.

        The answer is stamped with the hash of its line.

        Raises:
            OSError: the line cannot be written; the answer must not leave.
        """
        records = reply.content if reply.has_content() else None
        if records:
            stamp(records, LOG, START)  # as long as the hash of the line, which counts this byte by byte
        refused = refusal_code(records) if records else _NO_CONTENT
        entry = {
            "time": time.time(),
            "kind": printable(reply.metadata.message_type, KIND),
            **task,
            "bytes": content_bytes(reply) if records else 0,
            "shapes": shapes(records) if records else [],
            "sha256": digest(records) if records else hashlib.sha256().hexdigest(),
            **({"refused": refused} if refused else {}),
        }
        line = self.chain.append(entry)
        if records:
            stamp(records, LOG, line)

    @property
    def chain(self) -> Chain:
        """The log as a chain of lines."""
        return Chain(self.path)

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield the entries, oldest first, without torn lines: what these record had not left."""
        return self.chain.entries()

    def first_break(self) -> int | None:
        """Return the number of the first line that does not fit the one before; None if all do."""
        return self.chain.first_break()

    def answers_since(self, moment: float) -> Counter[str]:
        """Return kind of message → number of answers since a time in seconds, refusals left out.

        Answers are remembered for two days.
        """
        return _newest(self.path).since(moment)

    def rounds_since(self, moment: float) -> int:
        """Count the rounds of training and of sums that were answered since a time in seconds."""
        answers = self.answers_since(moment)
        return answers[TRAIN] + answers[GATHER]

    def contains(self, line: str) -> bool:
        """Whether the log has a line with this hash."""
        return _newest(self.path).contains(line) or self.chain.contains(line)


class _Newest:
    """The newest answers in a log, of which this process reads each line once."""

    def __init__(self, path: Path) -> None:
        self._follower = Follower(path)
        self._answers: deque[tuple[float, str]] = deque()

    def since(self, moment: float) -> Counter[str]:
        self._follow()
        return Counter(kind for answered, kind in self._answers if answered >= moment)

    def contains(self, line: str) -> bool:
        self._follow()
        return line in self._follower.hashes

    def _follow(self) -> None:
        whole, lines = self._follower.read()
        if whole:
            self._answers.clear()
        for line in lines:
            if entry := _answered(line):
                self._answers.append((entry["time"], entry["kind"]))
        horizon = time.time() - 2 * DAY
        while self._answers and self._answers[0][0] < horizon:
            self._answers.popleft()


def _answered(line: bytes) -> dict[str, Any] | None:
    """Return the entry of an answer; None for a refusal, and for a line that records nothing."""
    try:
        entry = json.loads(line)
        # Earlier versions did not record that an answer was a refusal, which has no shapes.
        answered = not entry.get("refused") and (entry["shapes"] or entry["kind"] not in (TRAIN, GATHER))
        return entry if answered and entry["time"] >= 0 else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


_newest = lru_cache(maxsize=16)(_Newest)  # a worker has one site
