"""The coordinator's record of this site's log: whether the log still has its end.

Each message from the coordinator brings the hash of the last line of the site's log that an answer
named (``server/deployment/receipts.py``). If the log has no such line, its end was cut off, or it
was replaced. The site goes on, and its commands warn until somebody removes the record.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedtransfer.client.consent.exchange_log import ExchangeLog
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.common.support.files import append_line, read_lines, replacement

log = logging.getLogger(__name__)

MOST = 100  # losses that are recorded: a coordinator could make up others without end


@dataclass(frozen=True)
class Countersignature:
    """The coordinator's record of a site's log."""

    site: SiteFolder

    def receive(self, line: str) -> None:
        """Compare the site's log with the hash that came with a message, and record it."""
        if not line:
            return
        if not ExchangeLog(self.site.exchange_log).contains(line):
            self._lost(line)
        if self.last() == line:
            return
        self.site.state.mkdir(mode=0o700, exist_ok=True)
        # After a power cut the next message brings it again, and a flush takes milliseconds.
        with replacement(self._last_file, mode=0o600, durable=False) as temporary:
            temporary.write_text(line)

    def last(self) -> str:
        """Return the newest hash that the coordinator sent; "" before the first."""
        return self._last_file.read_text() if self._last_file.exists() else ""

    def losses(self) -> list[dict[str, Any]]:
        """Return when the coordinator named lines that the log did not have, and their hashes."""
        return [line.row for line in read_lines(self._losses_file) if line.row is not None]

    def problems(self) -> list[str]:
        """Compare the log with all that the coordinator said; return what is wrong with it."""
        exchanges, problems = ExchangeLog(self.site.exchange_log), []
        name = self.site.exchange_log.name
        if position := exchanges.first_break():
            problems.append(
                f"{name}: line {position} does not follow from the line before; was the file changed?"
            )
        lost = [loss["line"] for loss in self.losses()]
        last = self.last()
        for line in dict.fromkeys([*lost, last] if last and not exchanges.contains(last) else lost):
            problems.append(
                f"{name}: the coordinator has a line {line[:16]}… of it that is missing here: its end was "
                "cut off, or the file replaced. Compare with the coordinator's people (fedtransfer server "
                f"audit-log); once that is explained, remove {self._losses_file}"
            )
        return problems

    def _lost(self, line: str) -> None:
        losses = self.losses()
        if len(losses) < MOST and line not in [loss["line"] for loss in losses]:
            log.error(
                "the coordinator has line %s… of %s, which is missing here: its end was cut off, or the "
                "file replaced; see fedtransfer client log --verify", line[:16], self.site.exchange_log,
            )  # fmt: skip
            append_line(self._losses_file, {"time": time.time(), "line": line})

    @property
    def _last_file(self) -> Path:
        return self.site.state / "countersigned"

    @property
    def _losses_file(self) -> Path:
        return self.site.folder / "sent-lost.jsonl"
