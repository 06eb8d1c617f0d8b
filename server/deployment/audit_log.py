"""The coordinator's log of what it did, ``audit.jsonl``: a chained log, as each site has one.

Its lines say which sites were enrolled and revoked; which runs were started, resumed and ended, by
whom, and with which settings; and which line of its log each site's answers named
(``server/deployment/receipts.py``).
"""

import getpass
import os
import time
from collections.abc import Mapping
from typing import Any

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.chain import Chain
from fedtransfer.common.support.text import printable
from fedtransfer.server.deployment.coordinator import Coordinator

ENROLLED, REVOKED, RENEWED = "enrolled", "revoked", "key renewed"
STARTED, RESUMED, SUBMITTED = "run started", "run resumed", "run submitted"
STOPPED, ENDED = "run stop", "run ended"
ANSWERS = "answers"  # the lines of the sites' logs that the answers of an exchange named
_LONGEST = 300  # characters of a value that is printed


def audit_log(coordinator: Coordinator) -> Chain:
    """Return the coordinator's log."""
    return Chain(coordinator.folder / "audit.jsonl")


def record(coordinator: Coordinator, event: str, **facts: Any) -> None:
    """Add an event to the coordinator's log; on return it is on the disk.

    Raises:
        UserError: it cannot be written, so what it is about should not happen.
    """
    log = audit_log(coordinator)
    try:
        log.append({"time": time.time(), "event": event, **facts})
    except OSError as error:
        raise UserError(
            f"{log.path}: cannot be written: {error.strerror}; make room, or give access, and try again"
        ) from None


def person() -> str:
    """Return the account that gave a command; behind ``sudo``, the one that used it."""
    return os.environ.get("SUDO_USER") or getpass.getuser()


def last_lines(coordinator: Coordinator) -> dict[str, str]:
    """Return site → the hash of the line of its log that its latest answer named.

    A site that is enrolled again, with another key, may have begun another log.
    """
    lines: dict[str, str] = {}
    for entry in audit_log(coordinator).entries():
        if entry.get("event") == ANSWERS and isinstance(logs := entry.get("logs"), dict):
            lines |= logs
        elif entry.get("event") == ENROLLED:
            lines.pop(str(entry.get("site")), None)
    return lines


def log_lines(coordinator: Coordinator, number: int, *, answers: bool) -> list[str]:
    """Return the last lines of the log as text, and the last line of each site's log.

    ``answers``: with the lines that say which lines of their logs the sites' answers named.
    """
    log = audit_log(coordinator)
    entries = [entry for entry in log.entries() if answers or entry.get("event") != ANSWERS]
    sites = (f"last line of {site}'s log: {line}" for site, line in sorted(last_lines(coordinator).items()))
    return [*map(_event_line, entries[-number:]), *sites, f"last line of this log: {log.last_hash()}"]


def _event_line(entry: Mapping[str, Any]) -> str:
    facts = {key: value for key, value in entry.items() if key not in ("time", "event", "before")}
    try:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry["time"]))
        if (event := entry["event"]) == ANSWERS:
            facts["logs"] = ", ".join(f"{site} {line[:16]}" for site, line in entry["logs"].items())
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return f"a line that records no event: {printable(str(dict(entry)), _LONGEST)}"
    words = ", ".join(f"{key} {printable(str(value), _LONGEST)}" for key, value in facts.items() if value)
    return f"{moment}  {event}: {words}"
