"""What the requests of sites say of them, for the status: is a clock wrong, a version another?"""

import json
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flwr.common.constant import TIMESTAMP_HEADER

from fedtransfer.common.support.files import replacement
from fedtransfer.common.wire.bundle import SOURCES_HEADER, sources_digest

FILE = "attendance.json"
AHEAD_SECONDS = 5.0  # SuperLink refuses signatures that are further ahead
BEHIND_SECONDS = 60.0  # less may be the time that a request takes on its way
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Attendance:
    """Writes clock and version of each site when one of them changes; make one per process."""

    def __init__(self, state: Path) -> None:
        self._path, self._turn = state / FILE, threading.Lock()
        self._sites: dict[str, dict[str, Any]] = {}

    def note(self, site: str, headers: Mapping[str, str]) -> None:
        """Note what the headers of a request say, which is signed with the key of ``site``."""
        offset = (datetime.fromisoformat(headers[TIMESTAMP_HEADER]) - datetime.now(UTC)).total_seconds()
        sources = headers.get(SOURCES_HEADER, "")
        entry = {
            "clock": 0 if -BEHIND_SECONDS <= offset <= AHEAD_SECONDS else round(offset),
            "sources": sources if _DIGEST.fullmatch(sources) else "",
        }
        with self._turn:
            if self._sites.get(site) == entry:
                return
            with suppress(OSError), replacement(self._path, mode=0o600, durable=False) as temporary:
                temporary.write_text(json.dumps(self._sites | {site: entry}), "utf-8")
                self._sites[site] = entry  # on a full disk it is written with a later request


def remarks(state: Path) -> dict[str, list[str]]:
    """Return sentences about sites, by name, that people at both ends must see to."""
    try:
        sites = json.loads((state / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    sentences: dict[str, list[str]] = {site: [] for site in sites}
    for site, entry in sites.items():
        if entry["clock"]:
            sentences[site].append(f"its clock is {entry['clock']:+} s off; its people use NTP")
        if entry["sources"] not in ("", sources_digest()):
            version = f"{entry['sources'][:16]}…, here {sources_digest()[:16]}…"
            sentences[site].append(
                f"it has another version of fedtransfer ({version}), so it refuses runs; install the same on "
                "both sides"
            )
    return sentences
