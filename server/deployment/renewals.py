"""Renewals of sites' keys: stored as answers bring them, taken up when no run is in progress.

A site whose key changes during a run would be another node to SuperLink, and lost to that run.
"""

import json
from collections.abc import Callable

from fedtransfer.common.support.files import write_whole
from fedtransfer.common.wire.renewal import renewed_line
from fedtransfer.server.deployment.audit_log import RENEWED, record
from fedtransfer.server.deployment.coordinator import Coordinator
from fedtransfer.server.deployment.enrolment import enrolled_sites, replace_key


def store_renewal(coordinator: Coordinator, site: str, text: str) -> None:
    """Store the renewal that came with an answer of a site, which its node identifies."""
    path = coordinator.folder / "sites" / "renewals" / f"{site}.json"
    if not path.exists() or _key(path.read_text("utf-8")) != _key(text):
        path.parent.mkdir(exist_ok=True)
        write_whole(path, text)


def take_up_renewals(coordinator: Coordinator, report: Callable[[str], None]) -> None:
    """Enrol the next keys of sites; refuse renewals that are not signed with the enrolled key.

    ``report`` is called with a line for each.
    """
    renewals = sorted((coordinator.folder / "sites" / "renewals").glob("*.json"))
    sites = {site.name: site for site in enrolled_sites(coordinator)} if renewals else {}
    for path in renewals:
        try:
            site = sites[path.stem]
            renewed = replace_key(coordinator, site, renewed_line(path.read_text("utf-8"), site.line))
        except (KeyError, ValueError) as error:
            report(f"the renewal of the key of {path.stem} is refused: {error}")
        else:
            record(coordinator, RENEWED, site=site.name, key=renewed.fingerprint, old=site.fingerprint)
            report(f"{site.name} has a new key: {renewed.fingerprint}")
        path.unlink()


def _key(text: str) -> str:
    try:
        return str(json.loads(text)["key"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return text
