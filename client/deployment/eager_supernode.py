"""Flower's SuperNode, which polls faster after each message, and shows the site's certificate.

Flower 1.41 waits 3 s after each poll without a message, and 0.5 s after each poll for the answer.
Both are constants in its loop. That is most of a round, and a masked round has five exchanges. Here
the first wait is 0.2 s, and each further wait is half as long again, up to Flower's 3 s. So an idle
site makes no more requests than before.

    python -m fedtransfer.client.deployment.eager_supernode ARGUMENTS OF flower-supernode
"""

import sys
import time
from pathlib import Path

from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.cli import flower_supernode

from fedtransfer.client.deployment.tls import fleet_client, site_context

IDLE_SECONDS = 3  # Flower's sleep without a message
FIRST_SECONDS, GROWTH = 0.2, 1.5
ANSWER_SECONDS = 0.1


class Pace:
    """Replaces the module ``time`` in Flower's loop, which uses only ``sleep`` of it."""

    def __init__(self) -> None:
        self._next = float(IDLE_SECONDS)

    def sleep(self, seconds: float) -> None:
        """Sleep briefly while a message is being answered, then longer each time until the next."""
        if seconds < IDLE_SECONDS:  # a message is being worked on
            self._next = FIRST_SECONDS
            time.sleep(ANSWER_SECONDS)
            return
        time.sleep(self._next)
        self._next = min(GROWTH * self._next, IDLE_SECONDS)


if __name__ == "__main__":  # as SuperNode's command does
    vars(start_client_internal)["time"] = Pace()
    options = ("--root-certificates", "--auth-supernode-private-key")
    authority, key = (Path(sys.argv[sys.argv.index(option) + 1]) for option in options)
    vars(fleet_http_connection)["FleetHttpClient"] = fleet_client(site_context(authority, key))
    flower_supernode()
