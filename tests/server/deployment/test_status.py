"""What `server status` and `server logs` say, in words."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from common.words import ago
from server.deployment.status import event_in_words, events, in_words

SITE = {
    "name": "a",
    "key": "SHA256:x",
    "status": "online",
    "since": (datetime.now(UTC) - timedelta(minutes=5)).isoformat(),
}
STATUS = {
    "folder": "/srv/federation", "supervisor": 1, "serving": True, "warnings": [], "sites": [SITE], "run": None,
}  # fmt: skip


def test_who_is_connected_since_when() -> None:
    since = {"since": (datetime.now(UTC) - timedelta(minutes=5)).isoformat()}
    assert in_words({**STATUS, "sites": [{**SITE, **since}]})[-2:] == [
        "  a: connected, since 5 min ago",
        "No run yet: fedtransfer server run",
    ]
    never = {**SITE, "status": "registered", "since": None}
    assert "  a: never seen yet" in in_words({**STATUS, "sites": [never]})
    assert "No site is enrolled: fedtransfer server enroll SITE.pub" in in_words({**STATUS, "sites": []})


def test_what_does_not_run_is_said_with_the_remedy() -> None:
    told = in_words({**STATUS, "supervisor": None, "serving": False, "warnings": ["the end is near"]})
    assert told[0] == "The coordinator in /srv/federation does not run: fedtransfer server start."
    assert told[1:3] == ["SuperLink does not answer.", "Warning: the end is near"]


def test_what_runs() -> None:
    last = {"event": "preparing", "time": time.time(), "site": "a", "done": 3, "total": 9}
    run = {"name": "one", "status": "running", "why": "", "rounds": 7, "last": last}
    assert in_words({**STATUS, "run": run})[-2:] == [
        "Run one (7 rounds): running",
        "  a prepares its features: 3 of 9 images, 0 s ago",
    ]


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"event": "preparing", "site": "a", "done": 0, "total": 0}, "a prepares its features: 0 of ? images"),
        (
            {"event": "start", "sites": ["a"], "rounds": 5, "resumed_after": 2, "absent": {"b": "no-data: none"}},
            "1 sites take part, 5 rounds, going on after round 2; b takes no part: no-data: none",
        ),
        (
            {"event": "round", "round": 3, "phase": "train", "failure": "", "present": ["a"], "planned": ["a", "b"],
             "accuracy": 0.5, "seconds": 4.25, "refused": {"b": "did not answer in time"}},
            "round 3: 1 of 2 sites, accuracy 50.0 %, 4.2 s; b is left out: did not answer in time",
        ),
        (
            {"event": "round", "round": 3, "phase": "train", "failure": "too few", "refused": {"b": "gone"}},
            "round 3: too few; b is left out: gone",
        ),
        ({"event": "end", "accuracy": None, "best_round": 4}, "finished: the head after 3 rounds of training is kept"),
        ({"event": "error", "text": "no room"}, "stopped: no room"),
    ],
)  # fmt: skip
def test_events_in_words(event: dict[str, object], words: str) -> None:
    assert event_in_words(event) == words


def test_a_line_cut_off_by_a_kill_is_passed_over(tmp_path: Path) -> None:
    assert list(events(tmp_path)) == []
    (tmp_path / "events.jsonl").write_text(json.dumps({"event": "end"}) + '\n{"event": "rou')
    assert list(events(tmp_path)) == [{"event": "end"}]


def test_times_as_people_say_them() -> None:
    now = datetime.now(UTC)
    assert ago(now - timedelta(seconds=12)) == "12 s ago"
    assert ago(now - timedelta(minutes=12)) == "12 min ago"
    assert ago(datetime(2020, 1, 2, 3, 4, tzinfo=UTC)) == "2020-01-02 03:04 UTC"
