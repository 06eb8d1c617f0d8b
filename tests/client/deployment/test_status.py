"""What ``fedtransfer client status`` says of a site."""

import time
from pathlib import Path
from typing import Any

import pytest

from fedtransfer.client.deployment.settings import SiteFolder, SiteSettings
from fedtransfer.client.deployment.status import status_lines, warnings
from fedtransfer.common.support import files
from fedtransfer.common.support.condition import Condition
from fedtransfer.common.wire.bundle import sources_digest


def told(**changes: Any) -> str:
    now = time.time()
    status = {
        "name": "north", "folder": "/srv/north", "coordinator": "hub:9443", "running": 7,
        "connection": {"up": True, "since": now - 300, "why": "", "facts": {}, "pulse": now}, "warnings": [],
        "worker": {"since": now, "doing_since": None, "done": 12, "last": None},
        "last_sent": {"kind": "train", "round": 3, "bytes": 11_043, "time": now},
        "privacy": "nothing is spent", "problems": [], "results": ["run-7"],
    }  # fmt: skip
    return "\n".join(status_lines({**status, **changes}))


def test_a_running_site_names_its_coordinator_its_work_and_what_it_sent() -> None:
    text = told()
    for fact in (
        "north",
        "/srv/north",
        "hub:9443",
        "12 messages",
        "train of round 3",
        "11,043 bytes",
        "run-7",
    ):
        assert fact in text


def test_a_query_has_no_round_and_a_site_may_have_sent_nothing() -> None:
    query = {"kind": "query", "round": None, "bytes": 300, "time": time.time()}
    assert "of round" not in told(last_sent=query)
    assert "Last sent" not in told(last_sent=None, results=[])


def test_a_site_that_does_not_run_says_how_to_start_it() -> None:
    assert "fedtransfer client start" in told(running=None, connection=None, worker=None)


def test_a_site_says_since_when_it_is_connected_or_why_it_is_not() -> None:
    assert "Connected to hub:9443 since 5 min ago." in told()
    since = time.time() - 12
    down = {"up": False, "since": since, "why": "its certificate has expired", "facts": {}, "pulse": since}
    text = told(connection=down)
    assert "NOT connected to hub:9443, since 12 s ago: its certificate has expired. The site goes on" in text
    assert "Connecting to hub:9443" in told(connection=None)
    assert "The worker does not answer" in told(worker=None)


DAY = 86_400.0


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"clock": 70}, "this machine's clock is +70 s off the coordinator's"),
        ({"clock": -3700}, "this machine's clock is -3700 s off"),
        ({"sources": "0" * 64}, "another version of fedtransfer (0000000000000000…, here "),
        ({"certificate_ends": time.time() + 3 * DAY}, "the coordinator's certificate expires on 2"),
        ({"certificate_ends": time.time() - DAY}, "the coordinator's certificate expired on 2"),
    ],
)
def test_what_must_be_seen_to_is_in_the_status(tmp_path: Path, facts: dict[str, Any], words: str) -> None:
    [warning] = warnings(
        SiteFolder(tmp_path, settings()), Condition(True, time.time(), "", facts, time.time())
    )
    assert words in warning
    assert f"Warning: {warning}." in told(warnings=[warning])


def test_nothing_is_to_be_seen_to(tmp_path: Path) -> None:
    facts = {"clock": 1, "sources": sources_digest(), "certificate_ends": time.time() + 300 * DAY}
    assert warnings(SiteFolder(tmp_path, settings()), Condition(True, 1.0, "", facts, time.time())) == []
    assert warnings(SiteFolder(tmp_path, settings()), None) == []


def test_a_full_disk_and_a_silent_supernode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LEAST_FREE_BYTES", 10**18)
    silent = Condition(True, 1.0, "", {}, time.time() - 100)
    full, silence = warnings(SiteFolder(tmp_path, settings()), silent)
    assert f"the disk of {tmp_path} is full: " in full
    assert "SuperNode has shown no sign of life for 100 s" in silence


def settings() -> SiteSettings:
    return SiteSettings(name="north", coordinator="hub:9443", data="images")
