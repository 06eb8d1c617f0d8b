"""``fedtransfer server start``: supervises SuperLink, enrolment, certificates and the current run.

Once it has started, nothing ends it but SIGTERM or Ctrl-C. A SuperLink that died or does not answer
is started again; a trouble, such as a full disk, is reported once and tried again for ever.
"""

import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.condition import ConditionFile
from fedtransfer.common.support.keys import close_keys
from fedtransfer.common.support.processes import end, log_size, only_process, rotate, wait_until_up
from fedtransfer.common.support.services import is_serving
from fedtransfer.server.deployment import certificates
from fedtransfer.server.deployment.coordinator import Coordinator
from fedtransfer.server.deployment.current import edit_current, read_current
from fedtransfer.server.deployment.database import set_aside_damaged
from fedtransfer.server.deployment.enrolment import key_warnings
from fedtransfer.server.deployment.gateway import Gateway
from fedtransfer.server.deployment.renewals import take_up_renewals
from fedtransfer.server.deployment.submission import attend, resubmit_or_fail
from fedtransfer.server.deployment.superlink import NoAnswer, Unavailable, connect, start_superlink
from fedtransfer.server.deployment.synchronisation import synchronise

TICK_SECONDS = 1.0
PAUSE_SECONDS = (1.0, 30.0)  # before SuperLink is started again after a failed start: shortest and longest
WARN_SECONDS = 24 * 3600.0
SILENT_SECONDS = 60.0  # without an answer, after which SuperLink is started again
SILENT_TRIES = 2
FAILING_SECONDS = 300.0  # with errors for answers only, after which SuperLink is started again
QUIET_SECONDS = 5.0  # between two questions whether it answers, while no run is open
EXPIRY = timedelta(hours=1)  # before the end of a certificate, when a run waits no longer for a renewal


def supervise(coordinator: Coordinator, report: Callable[[str], None]) -> None:
    """Coordinate until SIGTERM or Ctrl-C; a run in progress goes on at the next start.

    ``report`` is called with a line when something changes.

    Raises:
        UserError: it runs already, the server's certificate has expired, or SuperLink fails at the
            start.
    """
    certificates.refuse_expired(coordinator.certificates)
    refusal = f"{coordinator.folder}: this coordinator is running already; see fedtransfer server status"
    with only_process(coordinator.state, refusal):
        coordinator.condition.unlink(missing_ok=True)
        supervisor = _Supervisor(coordinator, report)
        try:
            server_key = coordinator.certificates / "server.key"
            for sentence in close_keys(coordinator.authority_key, server_key):
                supervisor.report(f"warning: {sentence}")
            supervisor.bring_up()
            while True:
                supervisor.supervise_once()
                time.sleep(TICK_SECONDS)
        except KeyboardInterrupt:
            supervisor.report("stopping")
        finally:
            supervisor.end()


class _Supervisor:
    """Supervises SuperLink, certificates, enrolment and the current run."""

    def __init__(self, coordinator: Coordinator, report: Callable[[str], None]) -> None:
        self._coordinator, self._report = coordinator, report
        self._superlink: subprocess.Popen[bytes] | None = None
        self._pause, self._due = PAUSE_SECONDS[0], 0.0  # of the next start of SuperLink
        self._last_warning = -WARN_SECONDS
        self._certificate = 0  # time of its last change
        self._enrolment: list[tuple[Path, int]] = []  # key files with the times of their last changes
        self._expiry = datetime.max.replace(tzinfo=UTC)  # of the certificate that SuperLink shows
        self._answered, self._tries = time.monotonic(), 0  # its last answer, tries without one since
        self._sound = time.monotonic()  # when all was well, or SuperLink was started, last
        self._gateway = Gateway(coordinator)
        self._complaint, self._condition = "", ConditionFile(coordinator.condition)

    def report(self, line: str) -> None:
        """Report a line; a full disk, on which the log may be, is no reason to end."""
        with suppress(OSError):
            self._report(line)

    def bring_up(self) -> None:
        """Start SuperLink, and resubmit a run that the last SuperLink left unfinished.

        Raises:
            UserError: it does not come up.
        """
        folder = self._coordinator
        self._gateway.follow()  # first, so that no enrolled site is refused while SuperLink starts
        for sentence in set_aside_damaged(folder.state / "superlink.db"):
            self.report(f"warning: {sentence}")
        self._certificate = _mtime(folder.certificates / "server.crt")
        self._expiry = certificates.read_certificate(folder.certificates / "server.crt").not_after
        log = folder.state / "superlink.log"
        begin = log_size(log)
        self._superlink = start_superlink(folder)
        self._enrolment = []  # its database may be another one
        try:
            wait_until_up("SuperLink", self._superlink, lambda: _answers(folder), log, self.report, begin)
        except UserError as error:
            self.end()
            ports = f"{folder.settings.superlink_port} and {folder.settings.health_port}"
            raise UserError(f"are the ports {ports} free? {error}") from None
        self._answered, self._tries, self._sound = time.monotonic(), 0, time.monotonic()
        self.report(f"SuperLink serves at {folder.superlink_address}")
        with connect(folder) as link, edit_current(folder) as current:
            if current and current.status == "running":
                run = link.run(current.submissions[-1])
                if run and run.status != "finished":  # Flower would take a minute to miss its ServerApp
                    link.stop(current.submissions[-1])
                    resubmit_or_fail(current, "SuperLink ended", self.report)

    def supervise_once(self) -> None:
        """Start SuperLink if it is down, attend to certificates, the run and enrolment."""
        try:
            self._supervise()
        except Exception as error:  # whatever it is, the coordinator must not end
            expected = isinstance(error, UserError | OSError)
            trouble = str(error) if expected else f"{type(error).__name__}: {error}"
            if isinstance(error, NoAnswer):
                self._tries += 1
                self._end_if_silent()
            elif isinstance(error, Unavailable):  # an error is an answer too, for a while
                self._answered, self._tries = time.monotonic(), 0
                self._end_if_failing()
            if trouble != self._complaint:  # once, not every second
                self.report(f"warning: {trouble}")
            self._complaint = trouble
            self._condition.down(trouble)
        else:
            self._complaint, self._sound = "", time.monotonic()
            self._condition.up({})

    def end(self) -> None:
        """Stop SuperLink."""
        if self._superlink:
            end(self._superlink)
        self._superlink = None

    def _supervise(self) -> None:
        if self._superlink and self._superlink.poll() is not None:
            self.report(f"SuperLink ended (exit status {self._superlink.returncode}); starting it again")
            self._superlink, self._due = None, time.monotonic() + TICK_SECONDS
        rotate(self._coordinator.state / "superlink.log")
        if time.monotonic() - self._last_warning >= WARN_SECONDS:
            self._last_warning = time.monotonic()
            expiring = certificates.expiry_warnings(self._coordinator.certificates)
            for warning in (*expiring, *key_warnings(self._coordinator)):
                self.report(f"warning: {warning}")
        self._take_up_renewal()
        certificates.refuse_expired(self._coordinator.certificates)  # not even this machine would connect
        if self._superlink is None:
            self._bring_up_again()
            return
        self._gateway.follow()
        with connect(self._coordinator) as link:
            attend(self._coordinator, link, self.report)
            enrolment = [(path, _mtime(path)) for path in self._coordinator.key_files]
            if enrolment != self._enrolment:
                synchronise(self._coordinator, link)
                self._enrolment = enrolment
            current = read_current(self._coordinator)
            if not (current and current.is_open):
                take_up_renewals(self._coordinator, self.report)
                if time.monotonic() - self._answered < QUIET_SECONDS:
                    return
                link.nodes()  # does it answer, though nothing else is asked of it?
            self._answered, self._tries = time.monotonic(), 0

    def _bring_up_again(self) -> None:
        if time.monotonic() < self._due:
            return
        try:
            self.bring_up()
            self._pause = PAUSE_SECONDS[0]
        except BaseException:
            self._due = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, PAUSE_SECONDS[1])
            raise

    def _take_up_renewal(self) -> None:
        """End SuperLink, to be started with a new certificate: between runs if there is time."""
        if _mtime(self._coordinator.certificates / "server.crt") == self._certificate or not self._superlink:
            return
        current = read_current(self._coordinator)
        if not (current and current.is_open) or self._expiry - datetime.now(UTC) < EXPIRY:
            restart = "SuperLink starts again to use it"
            self.report(f"the server's certificate was renewed; {restart}")
            self.end()

    def _end_if_silent(self) -> None:
        """End a SuperLink that lives but does not answer; it is started again."""
        silence = time.monotonic() - self._answered
        if self._superlink and silence > SILENT_SECONDS and self._tries >= SILENT_TRIES:
            self.report(f"SuperLink has not answered for {silence:.0f} s; starting it again")
            self.end()

    def _end_if_failing(self) -> None:
        """End a SuperLink that answers with nothing but errors; its database is checked then."""
        failing = time.monotonic() - self._sound
        if self._superlink and failing > FAILING_SECONDS:
            self.report(f"SuperLink has answered with errors for {failing:.0f} s; starting it again")
            self.end()


def _answers(coordinator: Coordinator) -> bool:
    """Whether SuperLink's Control API answers; it comes up a moment after the health service."""
    if not is_serving(coordinator.health_address):
        return False
    try:
        with connect(coordinator) as link:
            link.nodes()
    except UserError:
        return False
    return True


def _mtime(path: Path) -> int:
    return path.stat().st_mtime_ns
