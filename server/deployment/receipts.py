"""Which line of its log each site's answers named: the coordinator's record of the sites' logs.

A site's answer carries the hash of the line that records it. The coordinator writes it to a log of
its own, and sends it back with its next message to the site. So neither side can cut off or replace
its log unseen by the other.
"""

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from flwr.app import RecordDict

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.wire.protocol import TRAIN
from fedtransfer.common.wire.records import LOG, RENEWAL, stamped
from fedtransfer.server.deployment.audit_log import ANSWERS, audit_log, last_lines
from fedtransfer.server.deployment.coordinator import SETTINGS, Coordinator
from fedtransfer.server.deployment.renewals import store_renewal

log = logging.getLogger(__name__)


class Receipts:
    """The newest line of each site's log that an answer named; a run asks and adds."""

    def __init__(self, coordinator: Coordinator, config: RunConfig) -> None:
        self._coordinator = coordinator
        self._log, self._lines = audit_log(coordinator), last_lines(coordinator)
        self._unwritten: dict[str, str] = {}
        self._run, self._secret = Path(config.out).name, config.secret_cohorts

    def of(self, site: str) -> str:
        """Return the hash of a site's newest line; "" before its first answer."""
        return self._lines.get(site, "")

    def add(self, kind: str, answers: Mapping[str, RecordDict]) -> None:
        """Record which line each site's answer to a message of type ``kind`` named.

        The renewal of its key, which may come with an answer, is stored.

        A secret cohort leaves no trace: its sites name their later lines in answers to all.

        If the disk is full, they are written with those of the next exchange: no run ends for it.
        """
        named = {site: line for site, records in answers.items() if (line := stamped(records, LOG))}
        if not named or (self._secret and kind == TRAIN):
            return
        self._lines |= named
        self._unwritten |= named
        entry = {"time": time.time(), "event": ANSWERS, "run": self._run, "kind": kind}
        try:
            for site, records in answers.items():
                if renewal := stamped(records, RENEWAL):
                    store_renewal(self._coordinator, site, renewal)
            self._log.append({**entry, "logs": self._unwritten})
        except OSError as error:
            text = "%s: cannot be written: %s; make room, or give access"
            log.warning(text, self._coordinator.folder, error.strerror)
        else:
            self._unwritten = {}


def receipts_of(config: RunConfig) -> Receipts | None:
    """Return the receipts of a run in a coordinator's folder; None in a simulation."""
    folder = Path(config.out).parent.parent
    return Receipts(Coordinator.open(folder), config) if (folder / SETTINGS).is_file() else None
