"""What ``fedtransfer client status`` says of a site."""

import time
from typing import Any

from fedtransfer.client.deployment.status import status_lines


def told(**changes: Any) -> str:
    now = time.time()
    status = {
        "name": "north", "folder": "/srv/north", "coordinator": "hub:9443", "running": 7, "serving": True,
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
    assert "fedtransfer client start" in told(running=None, serving=False, worker=None)
