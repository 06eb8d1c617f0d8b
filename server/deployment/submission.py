"""Bring the current run to its end: submit it, stop it, finish it, submit it again or fail it.

Flower ends a run whose ServerApp or SuperLink dies. It is submitted again, to go on from its last
checkpoint, until several submissions in a row have made no new checkpoint. A reason that the
ServerApp gives is final, unless it may pass, as a full disk may.
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

IDLE_SUBMISSIONS = 5  # submissions in a row without a new checkpoint, after which a run has failed
PAUSE_SECONDS = 5.0  # before the second of these; before each further one twice as long
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
    """Resubmit a run that ended early, or declare it failed."""
    current.idle = current.idle + 1 if _newest_checkpoint(current) == current.checkpoint else 0
    current.why = details.removeprefix(EXCEPTION).strip()
    may_pass = not details.startswith(EXCEPTION) or any(part in details for part in _PASSING)
    if may_pass and current.idle < IDLE_SUBMISSIONS:
        report(f"run {current.name}: interrupted ({current.why or 'its process died'}); submitting it again")
        pause = PAUSE_SECONDS * 2 ** (current.idle - 1) if current.idle else 0.0
        current.status, current.not_before = "wanted", time.time() + pause
    else:
        current.status = "failed"
        report(f"run {current.name}: failed: {current.why}")


def _newest_checkpoint(current: Current) -> str:
    return max((path.name for path in (current.folder / "checkpoints").glob("round-*.npz")), default="")
