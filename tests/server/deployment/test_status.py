"""What `server status` and `server logs` say, in words."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedtransfer.common.support.text import ago
from fedtransfer.server.deployment.status import event_line, events, status_lines

SITE = {
    "name": "a",
    "key": "SHA256:x",
    "status": "online",
    "since": (datetime.now(UTC) - timedelta(minutes=5)).isoformat(),
}
STATUS = {
    "folder": "/srv/federation", "supervisor": 1, "serving": True, "warnings": [],
    "sites": [SITE], "run": None,
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
