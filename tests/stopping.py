"""A callback that stops a run in the middle of its third round, or before the closing scores where there are no rounds."""

from server.callbacks import Callback
from server.records import Round


class Stopped(Exception):
    """What ends the run."""


class Stop(Callback):
    """Sites have answered round 3, and kept their state of it, but the server has not taken it in: the last checkpoint is of round 2."""

    def on_round(self, record: Round) -> None:
        if (record.phase, record.round) == ("train", 3) or record.phase == "score":
            raise Stopped
