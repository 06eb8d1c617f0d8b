"""The watch over a working worker: it ends one that exceeds the site's limits.

A run is refused by an estimate (``client/consent/limits.py``). If the estimate was wrong, or a run
trains for more epochs than there is time, the worker ends, the message fails, and the site's
supervisor starts another worker.
"""

import logging
import os
import time
from collections.abc import Callable

from fedtransfer.client.deployment.settings import Limits
from fedtransfer.common.support.machine import used_memory_bytes
from fedtransfer.common.support.text import size

log = logging.getLogger(__name__)

TICK_SECONDS = 0.5
EXCEEDED = 3  # exit status


def excess(limits: Limits, since: float | None, used: int) -> str:
    """Say what a worker exceeds that answers since a time in seconds (None: it does not); or "".

    ``used``: the bytes of memory that it uses.
    """
    seconds = time.time() - since if since else 0.0
    if limits.seconds_an_answer and seconds > limits.seconds_an_answer:
        return f"an answer takes more than {limits.seconds_an_answer:g} s (seconds-an-answer in [limits])"
    if used > limits.memory:
        return f"it uses {size(used)} of memory, and may use {size(limits.memory)} (memory-gb in [limits])"
    return ""


def watch(limits: Callable[[], Limits], since: Callable[[], float | None]) -> None:
    """End this process once it exceeds the limits; it does not return.

    Args:
        limits: returns the site's present limits.
        since: returns the time at which the present answer began, None between answers.
    """
    while not (why := excess(limits(), since(), used_memory_bytes())):
        time.sleep(TICK_SECONDS)
    log.error("the worker ends: %s; the message that it works on fails", why)
    os._exit(EXCEEDED)
