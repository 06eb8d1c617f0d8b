"""Bring the current run to its end: submit it, stop it, finish it, submit it again or fail it.

Flower ends a run whose ServerApp or SuperLink dies. It is submitted again, to go on from its last
checkpoint. What ended a run that had come so far may pass, as too few sites or a full disk may: it
is tried for a day without a new checkpoint, after pauses that grow. A run without any checkpoint
has failed after several submissions, or once its ServerApp gives a reason that will not pass. So
has one that promises differential privacy, since each further try is charged.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext

from filelock import FileLock, Timeout

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import full_disk
from fedtransfer.server.deployment.coordinator import Coordinator
from fedtransfer.server.deployment.current import Current, edit_current, read_current, write_current
from fedtransfer.server.deployment.superlink import SuperLink, Unavailable

IDLE_SUBMISSIONS = 5  # in a row without a new checkpoint, after which a run without any has failed
IDLE_SECONDS = 24 * 3600.0  # without a new checkpoint, after which a run that had one has failed
PAUSE_SECONDS = 5.0  # before the second submission without one; before each further one twice as long …
LONGEST_PAUSE = 300.0  # … up to this
# Flower's prefix after an exception, missing if the process died.
EXCEPTION = "ServerApp failed with exception: "
# Parts of the texts of exceptions that may pass: of the disk, SuperLink's HTTP, TLS and database.
_PASSING = (
    "No space left on device", "Server error '5", "Connection refused", "CERTIFICATE_VERIFY_FAILED",
    "database is locked",
)  # fmt: skip


def attend(coordinator: Coordinator, link: SuperLink, report: Callable[[str], None]) -> None:
    """Take the current run one step further: submit, stop, finish, resubmit or fail it."""
    current = read_current(coordinator)
    if not current or not current.is_open:
        return
    with edit_current(coordinator) as current:
        assert current
        run = link.run(current.submissions[-1]) if current.submissions else None
        if current.status == "stopping":
            if run and run.status != "finished":
                link.stop(current.submissions[-1])
            current.status = "stopped"
            report(
                f"run {current.name}: stopped; go on with it: fedtransfer server run --resume {current.name}"
            )
        elif current.status == "wanted":
            try:
                _submit(coordinator, current, link, report)
            except Unavailable:
                raise  # it stays wanted
            except UserError as error:
                current.status, current.why = "failed", str(error)
                report(f"run {current.name}: not submitted: {error}")
        elif run and run.status != "finished":
            return
        elif run and run.outcome == "completed":
            current.status = "finished"
            report(f"run {current.name}: finished; its result is in {current.folder}")
        else:
            resubmit_or_fail(current, run.details if run else "SuperLink no longer knows it", report)


def _submit(
    coordinator: Coordinator, current: Current, link: SuperLink, report: Callable[[str], None]
) -> None:
    if time.time() < current.not_before:
        return
    for trouble in full_disk(coordinator.folder):
        raise Unavailable(f"run {current.name} waits: {trouble}")
    lock = current.folder / "checkpoints" / ".lock"
    try:
        with FileLock(lock, timeout=0) if lock.exists() else nullcontext():
            pass
    except Timeout:
        return  # the process of the last submission is still ending
    config = current.config.model_copy(update={"resume": (current.folder / "config.toml").exists()})
    current.checkpoint = _newest_checkpoint(current)
    write_current(coordinator, current)  # a disk that is full shows before the run is submitted
    current.submissions.append(link.submit(config))
    current.status = "running"
    after = f", to go on after {current.checkpoint}" if current.checkpoint else ""
    report(f"run {current.name}: submitted{after}")


def resubmit_or_fail(current: Current, details: str, report: Callable[[str], None]) -> None:
    """Resubmit a run that ended early, or declare it failed.

    ``details``: why it ended, in the words of Flower or of the exception that ended it.
    """
    now, newest = time.time(), _newest_checkpoint(current)
    if newest != current.checkpoint:
        current.idle, current.progress = 0, now
    else:
        current.idle += 1
    current.why = details.removeprefix(EXCEPTION).strip()
    if newest and not current.config.private:
        goes_on = now - current.progress < IDLE_SECONDS
    else:
        may_pass = not details.startswith(EXCEPTION) or any(part in details for part in _PASSING)
        goes_on = may_pass and current.idle < IDLE_SUBMISSIONS
    if goes_on:
        report(f"run {current.name}: interrupted ({current.why or 'its process died'}); submitting it again")
        pause = min(PAUSE_SECONDS * 2.0 ** (current.idle - 1), LONGEST_PAUSE) if current.idle else 0.0
        current.status, current.not_before = "wanted", now + pause
    else:
        current.status = "failed"
        report(f"run {current.name}: failed: {current.why}")


def _newest_checkpoint(current: Current) -> str:
    return max((path.name for path in (current.folder / "checkpoints").glob("round-*.npz")), default="")
