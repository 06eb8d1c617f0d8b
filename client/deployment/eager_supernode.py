"""Flower's SuperNode, which looks for the next message sooner after it has had one.

Flower 1.41 waits 3 s after every look for a message that found none, and 0.5 s after every look for the answer: constants
in its loop. That is most of a round, and a masked round is five exchanges. Here the first look comes after 0.2 s and each
wait that follows is half as long again, up to Flower's 3 s: a site that is not asked makes no more requests than before.

    python -m fedtransfer.client.deployment.eager_supernode ARGUMENTS OF flower-supernode
"""

import time

from flwr.supernode import start_client_internal
from flwr.supernode.cli import flower_supernode

IDLE_SECONDS = 3  # what Flower's loop sleeps where there is no message
FIRST_SECONDS, GROWTH = 0.2, 1.5
ANSWER_SECONDS = 0.1


class Pace:
    """Stands in for the module ``time`` in Flower's loop, of which it uses ``sleep`` alone."""

    def __init__(self) -> None:
        self._next = float(IDLE_SECONDS)

    def sleep(self, seconds: float) -> None:
        """Sleep less than asked: shortly for an answer, and after it ever longer until there is a message again."""
        if seconds < IDLE_SECONDS:  # a message is being worked on
            self._next = FIRST_SECONDS
            time.sleep(ANSWER_SECONDS)
            return
        time.sleep(self._next)
        self._next = min(GROWTH * self._next, IDLE_SECONDS)


def main() -> None:
    """Run SuperNode as its command would."""
    vars(start_client_internal)["time"] = Pace()
    flower_supernode()


if __name__ == "__main__":
    main()
