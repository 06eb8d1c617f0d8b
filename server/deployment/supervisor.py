"""``fedtransfer server start``: keeps SuperLink alive, enrolment in line, and the current run going to its end.

Flower ends a run whose ServerApp or SuperLink dies. The supervisor submits it again, to go on from its last
checkpoint; it gives up when that happens several times without a new checkpoint, and at once when the ServerApp says
why it cannot go on.
"""

import logging
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.health import is_serving
from fedtransfer.common.support.processes import end, log_size, rotate, wait_until_up
from fedtransfer.server.deployment import certificates
from fedtransfer.server.deployment.coordinator import Coordinator
from fedtransfer.server.deployment.current import Current, changing, read_current
from fedtransfer.server.deployment.enrolment import bring_in_line
from fedtransfer.server.deployment.superlink import SuperLink, connect, start_superlink

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
WARN_SECONDS = 24 * 3600.0
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
        UserError: it runs already, the server's certificate has expired, or SuperLink does not come up.
    """
    if certificates.read_certificate(coordinator.certificates / "server.crt").days_left < 0:
        raise UserError("the server's certificate has expired, so no site would connect; run: fedtransfer server renew")
    lock = FileLock(coordinator.state / "running.lock")
    try:
        lock.acquire(timeout=1)  # who asks whether it runs holds it for a moment
    except Timeout:
        raise UserError(
            f"{coordinator.folder}: this coordinator is running already; see fedtransfer server status"
        ) from None
    (coordinator.state / "pid").write_text(str(os.getpid()))
    supervisor = _Supervisor(coordinator, told)
    try:
        supervisor.bring_up()
        while True:
            supervisor.look()
            time.sleep(TICK_SECONDS)
    except KeyboardInterrupt:
        told("stopping")
    finally:
        supervisor.end()
        (coordinator.state / "pid").unlink(missing_ok=True)
        lock.release()


class _Supervisor:
    """Looks after SuperLink, certificates, enrolment and the current run."""

    def __init__(self, coordinator: Coordinator, told: Callable[[str], None]) -> None:
        self._coordinator, self._told = coordinator, told
        self._superlink: subprocess.Popen[bytes] | None = None
        self._warned = -WARN_SECONDS
        self._certificate = self._enrolment = 0  # when each was last changed
        self._complaint = ""

    def bring_up(self) -> None:
        """Start SuperLink, and take up the run that the one before was ended in."""
        folder = self._coordinator
        self._certificate = _changed(folder.certificates / "server.crt")
        log = folder.state / "superlink.log"
        begin = log_size(log)
        self._superlink = process = start_superlink(folder)
        try:
            wait_until_up(
                "SuperLink",
                process,
                lambda: is_serving(folder.health_address) and _answers(folder),
                log,
                self._told,
                begin,
            )
        except UserError as error:
            ports = f"{folder.settings.superlink_port} and {folder.settings.health_port}"
            raise UserError(f"are the ports {ports} free? {error}") from None
        self._told(f"SuperLink serves at {folder.superlink_address}")
        with connect(folder) as link, changing(folder) as current:
            if current and current.status == "running":
                known = link.run(current.submissions[-1])
                if (
                    known and known.status != "finished"
                ):  # Flower would notice after a minute that its ServerApp is gone
                    link.stop(current.submissions[-1])
                    _take_up(current, "SuperLink ended", self._told)

    def look(self) -> None:
        """Do what is to be done now."""
        if self._superlink and self._superlink.poll() is not None:
            self._told(f"SuperLink ended (exit status {self._superlink.returncode}); starting it again")
            time.sleep(TICK_SECONDS)
            self.bring_up()
        rotate(self._coordinator.state / "superlink.log")
        if time.monotonic() - self._warned >= WARN_SECONDS:
            self._warned = time.monotonic()
            for warning in certificates.expiry_warnings(self._coordinator.certificates):
                self._told(f"warning: {warning}")
        self._use_new_certificate()
        try:
            with connect(self._coordinator) as link:
                attend(self._coordinator, link, self._told)
                if (changed := _changed(self._coordinator.folder / "sites")) != self._enrolment:
                    bring_in_line(self._coordinator, link)
                    self._enrolment = changed
            self._complaint = ""
        except UserError as error:
            if str(error) != self._complaint:  # once, not every second
                self._told(f"warning: {error}")
            self._complaint = str(error)

    def end(self) -> None:
        """Stop SuperLink."""
        if self._superlink:
            end(self._superlink)

    def _use_new_certificate(self) -> None:
        current = read_current(self._coordinator)
        renewed = _changed(self._coordinator.certificates / "server.crt") != self._certificate
        if renewed and not (current and current.is_open):
            self._told("the server's certificate was renewed; SuperLink starts again to use it. Reload nginx too")
            self.end()
            self.bring_up()


def _answers(coordinator: Coordinator) -> bool:
    """Whether SuperLink's Control API answers too: its health service comes up a moment before."""
    try:
        with connect(coordinator) as link:
            link.nodes()
    except UserError:
        return False
    return True


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns


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
