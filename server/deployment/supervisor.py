"""``fedtransfer server start``: supervises SuperLink, and brings the current run to its end.

Flower ends a run whose ServerApp or SuperLink dies. The supervisor submits it again, to go on from
its last checkpoint. It gives up after several submissions without a new checkpoint, and at once if
the ServerApp reports why it cannot go on.
"""

import subprocess
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from filelock import FileLock, Timeout

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.processes import end, log_size, only_process, rotate, wait_until_up
from fedtransfer.common.support.services import is_serving
from fedtransfer.server.deployment import certificates
from fedtransfer.server.deployment.coordinator import Coordinator
from fedtransfer.server.deployment.current import Current, edit_current, read_current
from fedtransfer.server.deployment.enrolment import key_warnings, read_site
from fedtransfer.server.deployment.gateway import Gateway
from fedtransfer.server.deployment.renewals import take_up_renewals
from fedtransfer.server.deployment.superlink import SuperLink, connect, start_superlink

TICK_SECONDS = 1.0
WARN_SECONDS = 24 * 3600.0
IDLE_SUBMISSIONS = 3  # submissions in a row without a new checkpoint, after which a run has failed
EXCEPTION = (
    "ServerApp failed with exception: "  # Flower's prefix after an exception, missing if the process died
)


def supervise(coordinator: Coordinator, report: Callable[[str], None]) -> None:
    """Coordinate until SIGTERM or Ctrl-C; a run in progress goes on at the next start.

    ``report`` is called with a line when something changes.

    Raises:
        UserError: it runs already, the server's certificate has expired, or SuperLink fails.
    """
    if certificates.read_certificate(coordinator.certificates / "server.crt").days_left < 0:
        why = "the server's certificate has expired, so no site would connect"
        raise UserError(f"{why}; run: fedtransfer server renew")
    refusal = f"{coordinator.folder}: this coordinator is running already; see fedtransfer server status"
    with only_process(coordinator.state, refusal):
        supervisor = _Supervisor(coordinator, report)
        try:
            supervisor.bring_up()
            while True:
                supervisor.supervise_once()
                time.sleep(TICK_SECONDS)
        except KeyboardInterrupt:
            report("stopping")
        finally:
            supervisor.end()


class _Supervisor:
    """Supervises SuperLink, certificates, enrolment and the current run."""

    def __init__(self, coordinator: Coordinator, report: Callable[[str], None]) -> None:
        self._coordinator, self._report = coordinator, report
        self._superlink: subprocess.Popen[bytes] | None = None
        self._last_warning = -WARN_SECONDS
        self._certificate = self._enrolment = 0  # times of their last changes
        self._complaint = ""
        self._gateway = Gateway(coordinator)

    def bring_up(self) -> None:
        """Start SuperLink, and resubmit a run that the last SuperLink left unfinished."""
        folder = self._coordinator
        self._gateway.follow()  # first, so that no enrolled site is refused while SuperLink starts
        self._certificate = _mtime(folder.certificates / "server.crt")
        log = folder.state / "superlink.log"
        begin = log_size(log)
        self._superlink = start_superlink(folder)
        try:
            wait_until_up("SuperLink", self._superlink, lambda: _answers(folder), log, self._report, begin)
        except UserError as error:
            ports = f"{folder.settings.superlink_port} and {folder.settings.health_port}"
            raise UserError(f"are the ports {ports} free? {error}") from None
        self._report(f"SuperLink serves at {folder.superlink_address}")
        with connect(folder) as link, edit_current(folder) as current:
            if current and current.status == "running":
                run = link.run(current.submissions[-1])
                if run and run.status != "finished":  # Flower would take a minute to miss its ServerApp
                    link.stop(current.submissions[-1])
                    _resubmit_or_fail(current, "SuperLink ended", self._report)

    def supervise_once(self) -> None:
        """Restart SuperLink if it ended, warn of certificates, attend to the run and enrolment."""
        if self._superlink and self._superlink.poll() is not None:
            self._report(f"SuperLink ended (exit status {self._superlink.returncode}); starting it again")
            time.sleep(TICK_SECONDS)
            self.bring_up()
        rotate(self._coordinator.state / "superlink.log")
        if time.monotonic() - self._last_warning >= WARN_SECONDS:
            self._last_warning = time.monotonic()
            expiring = certificates.expiry_warnings(self._coordinator.certificates)
            for warning in (*expiring, *key_warnings(self._coordinator)):
                self._report(f"warning: {warning}")
        current = read_current(self._coordinator)
        renewal = _mtime(self._coordinator.certificates / "server.crt") != self._certificate
        if renewal and not (current and current.is_open):
            restart = "SuperLink starts again to use it"
            self._report(f"the server's certificate was renewed; {restart}")
            self.end()
            self.bring_up()
        try:
            self._gateway.follow()
            with connect(self._coordinator) as link:
                attend(self._coordinator, link, self._report)
                if not (current and current.is_open):
                    take_up_renewals(self._coordinator, self._report)
                if (enrolment := _mtime(self._coordinator.folder / "sites")) != self._enrolment:
                    synchronise(self._coordinator, link)
                    self._enrolment = enrolment
            self._complaint = ""
        except UserError as error:
            if str(error) != self._complaint:  # once, not every second
                self._report(f"warning: {error}")
            self._complaint = str(error)

    def end(self) -> None:
        """Stop SuperLink."""
        if self._superlink:
            end(self._superlink)


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
                _submit(current, link, report)
            except UserError as error:
                current.status, current.why = "failed", str(error)
                report(f"run {current.name}: not submitted: {error}")
        elif run and run.status != "finished":
            return
        elif run and run.outcome == "completed":
            current.status = "finished"
            report(f"run {current.name}: finished; its result is in {current.folder}")
        else:
            _resubmit_or_fail(current, run.details if run else "SuperLink no longer knows it", report)


def synchronise(coordinator: Coordinator, superlink: SuperLink) -> None:
    """Register the enrolled sites with SuperLink, and unregister all others.

    Raises:
        UserError: a key file is damaged. Its site stays as it was, all others are synchronised.
    """
    paths = {path.stem: path for path in sorted((coordinator.folder / "sites").glob("*.pub"))}
    nodes, damaged = {node.name: node for node in superlink.nodes()}, []
    for name in nodes.keys() - paths.keys():
        superlink.unregister(nodes[name].node_id)
    for name, path in paths.items():
        try:
            site = read_site(path, name)
        except UserError as error:
            damaged.append(str(error))
            continue
        if name in nodes and nodes[name].public_key != site.pem:
            superlink.unregister(nodes.pop(name).node_id)
        if name not in nodes:
            superlink.register(site.pem, name)
    if damaged:
        raise UserError("\n".join(damaged))


def _submit(current: Current, link: SuperLink, report: Callable[[str], None]) -> None:
    lock = current.folder / "checkpoints" / ".lock"
    try:
        with FileLock(lock, timeout=0) if lock.exists() else nullcontext():
            pass
    except Timeout:
        return  # the process of the last submission is still ending
    config = current.config.model_copy(update={"resume": (current.folder / "config.toml").exists()})
    current.checkpoint = _newest_checkpoint(current)
    current.submissions.append(link.submit(config))
    current.status = "running"
    after = f", to go on after {current.checkpoint}" if current.checkpoint else ""
    report(f"run {current.name}: submitted{after}")


def _resubmit_or_fail(current: Current, details: str, report: Callable[[str], None]) -> None:
    """Resubmit a run that ended early, or declare it failed."""
    current.idle = current.idle + 1 if _newest_checkpoint(current) == current.checkpoint else 0
    current.why = details.removeprefix(EXCEPTION).strip()
    if not details.startswith(EXCEPTION) and current.idle < IDLE_SUBMISSIONS:
        report(f"run {current.name}: interrupted ({current.why or 'its process died'}); submitting it again")
        current.status = "wanted"
    else:
        current.status = "failed"
        report(f"run {current.name}: failed: {current.why}")


def _newest_checkpoint(current: Current) -> str:
    return max((path.name for path in (current.folder / "checkpoints").glob("round-*.npz")), default="")
