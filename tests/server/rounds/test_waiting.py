"""A run that waits for sites reports it, to callbacks, in its events and in words."""

import json
from pathlib import Path

import pytest
from drawn_sites import Drawn, three_sites

from fedtransfer.server.callbacks import Callback
from fedtransfer.server.callbacks.json_log import JsonLog
from fedtransfer.server.deployment.status import event_line


def test_missing_sites_are_reported_while_they_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedtransfer.server.sites.federation.REPORT_SECONDS", 0.0)
    events = tmp_path / "events.jsonl"
    Drawn(three_sites(), tmp_path / "run").run(
        Callback(), JsonLog(str(events)), rounds=1, sites=4, min_sites=2, join_timeout=0.5
    )
    waiting = [
        event for line in events.read_text().splitlines() if (event := json.loads(line))["event"] == "waiting"
    ]
    assert waiting
    for event in waiting:
        assert (len(event["connected"]), event["wanted"]) == (3, 4)
        assert "3 of 4" in event_line(event)
    nobody = event_line({**waiting[0], "connected": [], "seconds": 20})
    assert "20 s" in nobody
    assert "0 of 4" in nobody
