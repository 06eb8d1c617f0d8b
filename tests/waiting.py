"""Waiting for events. A wait that succeeds takes as long as the event; a failure names the event.

``FEDTRANSFER_PATIENCE=4`` makes every limit four times as long, for a machine with other work.
"""

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = float(os.environ.get("FEDTRANSFER_PATIENCE", "1"))
POLL_SECONDS = 0.02


def patient(seconds: float) -> float:
    """Return a limit in seconds, for this machine."""
    return PATIENCE * seconds


def wait_until(
    true: Callable[[], T], what: str, died: Callable[[], object] = lambda: "", seconds: float = 300.0
) -> T:
    """Poll until ``true()`` is true, and return what it returned.

    Args:
        true: the event, such as ``path.exists``.
        what: the event in words, for the failure: "the site is up".
        died: returns how the process ended that should bring the event about, "" while it runs.
        seconds: the longest that it may take on a quiet machine.

    Raises:
        AssertionError: it did not come, or cannot come any more.
    """
    deadline = time.monotonic() + patient(seconds)
    while not (value := true()):
        if ended := died():
            value = true()  # it may have come about just before
            assert value, f"this cannot happen any more: {what}: {ended}"
            return value
        assert time.monotonic() < deadline, f"this did not happen within {patient(seconds):g} s: {what}"
        time.sleep(POLL_SECONDS)
    return value
