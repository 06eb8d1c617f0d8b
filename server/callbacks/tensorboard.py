"""TensorBoard scalars by round, in ``tensorboard/``."""

import time

from fedtransfer.server.callbacks import Callback, Round, Start


class TensorBoard(Callback):
    """Writes events with TensorBoard's own writer: ``tf.summary`` takes 8 ms more per round."""

    def on_start(self, start: Start) -> None:
        """Open the event file; TensorBoard drops what was logged after the checkpoint before."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(start.folder / "tensorboard"))
        if start.resumed_after is not None:
            log = SessionLog(status=SessionLog.START)
            self._writer.add_event(
                Event(wall_time=time.time(), step=start.resumed_after + 1, session_log=log)
            )

    def on_round(self, record: Round) -> None:
        """Add the scores of a round that did not fail."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        if record.failure:
            return
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in record.scalars.items()]
        self._writer.add_event(
            Event(wall_time=time.time(), step=record.round, summary=Summary(value=scalars))
        )

    def close(self) -> None:
        """Flush and close the event file."""
        if hasattr(self, "_writer"):
            self._writer.close()
