"""TensorBoard scalars by round, in ``tensorboard/``."""

import os
import socket
import time
from itertools import count
from typing import Any

from fedtransfer.server.callbacks import Callback, Round, Start

_files = count()  # two runs of a process in one second have two files


class TensorBoard(Callback):
    """Writes events as TensorBoard's own records; its event writer would load TensorFlow."""

    def on_start(self, start: Start) -> None:
        """Open the event file; TensorBoard drops what was logged after the checkpoint before."""
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder = start.folder / "tensorboard"
        folder.mkdir(parents=True, exist_ok=True)
        machine, process = socket.gethostname(), os.getpid()
        name = f"events.out.tfevents.{int(time.time()):010}.{machine}.{process}.{next(_files)}"
        self._writer = RecordWriter((folder / name).open("wb"))
        self._write(file_version="brain.Event:2")
        if start.resumed_after is not None:
            log = SessionLog(status=SessionLog.START)
            self._write(step=start.resumed_after + 1, session_log=log)

    def on_round(self, record: Round) -> None:
        """Add the scores of a round that did not fail."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        if record.failure:
            return
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in record.scalars.items()]
        self._write(step=record.round, summary=Summary(value=scalars))

    def _write(self, **event: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.write(Event(wall_time=time.time(), **event).SerializeToString())
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if hasattr(self, "_writer"):
            self._writer.close()
