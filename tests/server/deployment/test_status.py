"""What `server status` and `server logs` say, in words."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedtransfer.common.support import files
from fedtransfer.common.support.condition import ConditionFile
from fedtransfer.common.support.processes import only_process
from fedtransfer.common.support.text import ago
from fedtransfer.server.deployment import status
from fedtransfer.server.deployment.founding import found_coordinator
from fedtransfer.server.deployment.status import event_line, events, status_lines

SITE = {
    "name": "a",
    "key": "SHA256:x",
    "status": "online",
    "since": (datetime.now(UTC) - timedelta(minutes=5)).isoformat(),
    "remarks": [],
}
STATUS = {
    "folder": "/srv/federation", "supervisor": 1, "serving": True, "warnings": [], "why": "",
    "down_since": None, "sites": [SITE], "refusals": [], "run": None,
}  # fmt: skip


def test_who_is_connected_since_when() -> None:
    since = {"since": (datetime.now(UTC) - timedelta(minutes=5)).isoformat()}
    assert status_lines({**STATUS, "sites": [{**SITE, **since}]})[-2:] == [
        "  a: connected, since 5 min ago",
        "No run yet: fedtransfer server run",
    ]
    never = {**SITE, "status": "registered", "since": None}
    assert "  a: never seen yet" in status_lines({**STATUS, "sites": [never]})
    assert "fedtransfer server enroll SITE.pub" in "\n".join(status_lines({**STATUS, "sites": []}))


def test_what_does_not_run_is_said_with_the_remedy() -> None:
    told = status_lines({**STATUS, "supervisor": None, "serving": False, "warnings": ["the end is near"]})
    assert "/srv/federation" in told[0]
    assert "fedtransfer server start" in told[0]
    assert told[1:3] == ["SuperLink does not answer.", "Warning: the end is near"]


def test_a_trouble_is_said_with_its_beginning() -> None:
    told = status_lines({**STATUS, "why": "the disk is full", "down_since": time.time() - 12})
    assert "Trouble, since 12 s ago: the disk is full" in told
    told = status_lines({**STATUS, "why": "SuperLink refused: HTTP 500"})
    assert "Trouble: SuperLink refused: HTTP 500" in told
    clock = status_lines({**STATUS, "sites": [{**SITE, "remarks": ["its clock is +70 s off"]}]})
    assert "    Warning: its clock is +70 s off." in clock


def test_the_status_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged key file, a full disk, and why SuperLink is down, as its supervisor knows."""
    ports = {"port": 9443, "superlink_port": 1, "health_port": 2}
    coordinator = found_coordinator(tmp_path / "hub", ["localhost"], **ports, user="")
    (coordinator.folder / "sites" / "north.pub").write_text("torn")
    monkeypatch.setattr(status, "is_serving", lambda address: False)
    [damage] = status.describe(coordinator)["warnings"]
    assert "north.pub: expected a public key" in damage
    monkeypatch.setattr(files, "LEAST_FREE_BYTES", 10**18)
    full, _ = status.describe(coordinator)["warnings"]
    assert f"the disk of {coordinator.folder} is full" in full
    ConditionFile(coordinator.condition).down("are the ports 1 and 2 free?")
    assert status.describe(coordinator)["why"] == "", "of a supervisor that runs no more"
    with only_process(coordinator.state, "it runs"):
        assert status.describe(coordinator)["why"] == "are the ports 1 and 2 free?"


def test_who_was_refused_and_why() -> None:
    eve = {"site": "eve", "why": "sent too much", "times": 3, "last": time.time() - 120}
    nobody = {"site": "", "why": "no key", "times": 1, "last": time.time()}
    *_, first, second, _ = status_lines({**STATUS, "refusals": [eve, nobody]})
    assert first == "  refused: eve: sent too much (3 times, last 2 min ago)"
    assert second == "  refused: nobody who is enrolled: no key (once, last 0 s ago)"


def test_what_runs() -> None:
    last = {"event": "preparing", "time": time.time(), "site": "a", "done": 3, "total": 9}
    run = {"name": "one", "status": "running", "why": "", "rounds": 7, "last": last}
    title, latest = status_lines({**STATUS, "run": run})[-2:]
    assert all(part in title for part in ("one", "7 rounds", "running"))
    assert all(part in latest for part in (" a ", "3 of 9", "0 s ago"))


@pytest.mark.parametrize(
    ("event", "parts"),
    [
        ({"event": "preparing", "site": "a", "done": 0, "total": 0}, ("a ", "0 of ?")),
        (
            {"event": "start", "sites": ["a"], "rounds": 5, "resumed_after": 2,
             "absent": {"b": "no-data: none"}},
            ("1 site,", "5 rounds", "after round 2", "b ", "no-data: none"),
        ),
        (
            {"event": "round", "round": 3, "phase": "train", "failure": "", "present": ["a"],
             "planned": ["a", "b"], "accuracy": 0.5, "seconds": 4.25,
             "refused": {"b": "did not answer in time"}},
            ("round 3: 1 of 2 sites", "50.0 %", "4.2 s", "b ", "did not answer in time"),
        ),
        (
            {"event": "round", "round": 3, "phase": "train", "failure": "too few", "refused": {"b": "gone"}},
            ("round 3: too few", "b ", "gone"),
        ),
        ({"event": "end", "accuracy": None, "best_round": 4}, ("finished", "3 rounds")),
        ({"event": "error", "text": "no room"}, ("stopped", "no room")),
    ],
)  # fmt: skip
def test_events_as_lines(event: dict[str, object], parts: tuple[str, ...]) -> None:
    words = event_line(event)
    assert [part for part in parts if part not in words] == []


def test_a_line_cut_off_by_a_kill_is_passed_over(tmp_path: Path) -> None:
    assert events(tmp_path) == []
    (tmp_path / "events.jsonl").write_text(json.dumps({"event": "end"}) + '\n{"event": "rou')
    assert events(tmp_path) == [{"event": "end"}]


def test_times_as_people_say_them() -> None:
    now = datetime.now(UTC)
    assert ago(now - timedelta(seconds=12)) == "12 s ago"
    assert ago(now - timedelta(minutes=12)) == "12 min ago"
    assert ago(datetime(2020, 1, 2, 3, 4, tzinfo=UTC)) == "2020-01-02 03:04 UTC"
