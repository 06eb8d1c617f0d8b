"""``fedtransfer server start``: keeps SuperLink alive, enrolment in line, and the current run going to its end.

Flower ends a run whose ServerApp or SuperLink dies. The supervisor submits it again, to go on from its last
checkpoint; it gives up when that happens several times without a new checkpoint, and at once when the ServerApp says
why it cannot go on.
"""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable

from filelock import FileLock, Timeout

from common.errors import UserError
from common.health import is_serving
from common.processes import end, last_lines, rotate
from server.deployment import certificates
from server.deployment.coordinator import Coordinator
from server.deployment.current import Current, changing, read_current
from server.deployment.enrolment import bring_in_line
from server.deployment.superlink import SuperLink, connect, start_superlink

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
WARN_SECONDS = 24 * 3600.0
START_SECONDS = 60.0  # the longest that SuperLink may take to come up
IDLE_SUBMISSIONS = 3  # in a row without a new checkpoint, after which a run has failed
SAID_WHY = (
    "ServerApp failed with exception: "  # how Flower begins when the ServerApp raised; a process that died does not
)


def supervise(coordinator: Coordinator, told: Callable[[str], None]) -> None:
    """Coordinate until this process is ended (SIGTERM or Ctrl-C); a run in progress goes on at the next start.

    Args:
        coordinator: its folder, opened.
        told: is given a line when something changes.

    Raises:
        UserError: it runs already, a certificate has expired, or SuperLink does not come up.
    """
    if certificates.read_certificate(coordinator.certificates / "server.crt").days_left < 0:
        raise UserError("the server's certificate has expired, so no site would connect; run: fedtransfer server renew")
    lock = FileLock(coordinator.state / "running.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{coordinator.folder}: this coordinator is running already; see fedtransfer server status"
        ) from None
    signal.signal(signal.SIGTERM, _interrupt)
    (coordinator.state / "pid").write_text(str(os.getpid()))
    superlink = _bring_up(coordinator, told)
    warned, certificate = _warn(coordinator, told), _certificate(coordinator)
    enrolment, complaint = 0, ""
    try:
        while True:
            if superlink.poll() is not None:
                told(f"SuperLink ended (exit status {superlink.returncode}); starting it again")
                time.sleep(TICK_SECONDS)
                superlink = _bring_up(coordinator, told)
            rotate(coordinator.state / "superlink.log")
            if (now := _certificate(coordinator)) != certificate and not _has_run(coordinator):
                told("the server's certificate was renewed; SuperLink starts again to use it. Reload nginx too")
                certificate = now
                end(superlink)
                superlink = _bring_up(coordinator, told)
            if time.monotonic() - warned > WARN_SECONDS:
                warned = _warn(coordinator, told)
            try:
                with connect(coordinator) as link:
                    if (changed := (coordinator.folder / "sites").stat().st_mtime_ns) != enrolment:
                        bring_in_line(coordinator, link)
                        enrolment = changed
                    attend(coordinator, link, told)
                complaint = ""
            except UserError as error:
                if str(error) != complaint:  # once, not every second
                    told(f"warning: {error}")
                complaint = str(error)
            time.sleep(TICK_SECONDS)
    except KeyboardInterrupt:
        told("stopping")
    finally:
        end(superlink)
        (coordinator.state / "pid").unlink(missing_ok=True)
        lock.release()


def _warn(coordinator: Coordinator, told: Callable[[str], None]) -> float:
    for warning in certificates.expiry_warnings(coordinator.certificates):
        told(f"warning: {warning}")
    return time.monotonic()


def _certificate(coordinator: Coordinator) -> int:
    return (coordinator.certificates / "server.crt").stat().st_mtime_ns


def _has_run(coordinator: Coordinator) -> bool:
    current = read_current(coordinator)
    return current is not None and current.is_open


def attend(coordinator: Coordinator, link: SuperLink, told: Callable[[str], None]) -> None:
    """Do the next thing for the current run, if there is any."""
    current = read_current(coordinator)
    if not current or not current.is_open:
        return
    with changing(coordinator) as current:
        assert current
        known = link.run(current.submissions[-1]) if current.submissions else None
        if current.status == "stopping":
            if known and known.status != "finished":
                link.stop(current.submissions[-1])
            current.status = "stopped"
            told(f"run {current.name}: stopped; go on with it: fedtransfer server run --resume {current.name}")
        elif current.status == "wanted":
            try:
                _submit(current, link, told)
            except UserError as error:
                current.status, current.why = "failed", str(error)
                told(f"run {current.name}: not submitted: {error}")
        elif known and known.status != "finished":
            return
        elif known and known.outcome == "completed":
            current.status = "finished"
            told(f"run {current.name}: finished; its result is in {current.folder}")
        else:
            _take_up(current, known.details if known else "SuperLink no longer knows it", told)


def _submit(current: Current, link: SuperLink, told: Callable[[str], None]) -> None:
    folder = current.folder
    if not _is_free(current):
        return  # the process of the submission before is not quite gone
    config = current.config.model_copy(update={"resume": (folder / "config.toml").exists()})
    current.checkpoint = _newest_checkpoint(current)
    current.submissions.append(link.submit(config))
    current.status = "running"
    told(f"run {current.name}: submitted" + (f", to go on after {current.checkpoint}" if current.checkpoint else ""))


def _take_up(current: Current, details: str, told: Callable[[str], None]) -> None:
    """Decide what becomes of a run that ended before its time."""
    current.idle = current.idle + 1 if _newest_checkpoint(current) == current.checkpoint else 0
    current.why = details.removeprefix(SAID_WHY).strip()
    if not details.startswith(SAID_WHY) and current.idle < IDLE_SUBMISSIONS:
        told(f"run {current.name}: interrupted ({current.why or 'its process died'}); submitting it again")
        current.status = "wanted"
    else:
        current.status = "failed"
        told(f"run {current.name}: failed: {current.why}")


def _newest_checkpoint(current: Current) -> str:
    return max((path.name for path in (current.folder / "checkpoints").glob("round-*.npz")), default="")


def _is_free(current: Current) -> bool:
    """Whether no process works on the run folder."""
    path = current.folder / "checkpoints" / ".lock"
    if not path.exists():
        return True
    try:
        with FileLock(path, timeout=0):
            return True
    except Timeout:
        return False


def _bring_up(coordinator: Coordinator, told: Callable[[str], None]) -> "subprocess.Popen[bytes]":
    process = start_superlink(coordinator)
    deadline = time.monotonic() + START_SECONDS
    while not is_serving(coordinator.health_address):
        if process.poll() is not None or time.monotonic() > deadline:
            end(process)
            raise UserError(
                f"SuperLink does not come up; are the ports {coordinator.settings.superlink_port} and "
                f"{coordinator.settings.health_port} free? Its log says:\n{last_lines(coordinator.state / 'superlink.log')}"
            )
        time.sleep(0.1)
    told(f"SuperLink serves at {coordinator.superlink_address}")
    with connect(coordinator) as link, changing(coordinator) as current:
        if current and current.status == "running":  # Flower would notice after a minute that its ServerApp is gone
            link.stop(current.submissions[-1])
            _take_up(current, "SuperLink ended", told)
    return process


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
