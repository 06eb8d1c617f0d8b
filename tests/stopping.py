"""Callbacks that stop a run in the middle of a round, or hold it there until it is killed."""

import os
import time

from fedtransfer.server.callbacks import Callback, Round


class Stopped(Exception):
    """What ends the run."""


class Stop(Callback):
    """Stops in the third round, or before the closing scores if there are no rounds.

    Sites have answered round 3, and kept their state of it, but the server has not taken it in:
    the last checkpoint is of round 2.
    """

    def on_round(self, record: Round) -> None:
        if (record.phase, record.round) == ("train", 3) or record.phase == "score":
            raise Stopped


class Hold(Callback):
    """Waits in the sixth round for a signal where the environment has ``FEDTRANSFER_HOLD``."""

    def on_round(self, record: Round) -> None:
        while (record.phase, record.round) == ("train", 6) and "FEDTRANSFER_HOLD" in os.environ:
            time.sleep(0.05)
