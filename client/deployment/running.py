"""``fedtransfer client start``: starts and supervises the warm worker and Flower's SuperNode.

SuperNode tries again by itself what may pass. Whatever ends it, a process that dies or falls
silent, a revoked key, a full disk, is reported once, is in the site's status, and is tried again
for ever, with growing pauses.
"""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import httpx

from fedtransfer.client.deployment.causes import cause
from fedtransfer.client.deployment.fleet import connect
from fedtransfer.client.deployment.renewal import end_renewal
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.client.deployment.supernode import start_supernode
from fedtransfer.client.deployment.worker import worker_status
from fedtransfer.common.errors import UserError
from fedtransfer.common.support import processes
from fedtransfer.common.support.condition import ConditionFile, pulse, read_condition

TICK_SECONDS = 0.5
NOTICE_SECONDS = 2.0  # in which the coordinator notices that a SuperNode is gone
RENEWAL_SECONDS = 10.0  # between two looks whether the coordinator has taken up the next key
PAUSE_SECONDS = (1.0, 30.0)  # before a new try, less a random part: shortest and longest
SOUND_SECONDS = 60.0  # after so long without trouble the pauses are short again
SILENT_SECONDS = 120.0  # without a pulse, after which SuperNode is started again
# Flower 1.41's SuperNode logs this if a run ends while it receives a message of that run. It keeps
# the incomplete message, would take its late answer for that of the next one, and hold that one
# back: it must be restarted.
CONFUSED = b"Ignoring message"


def run_site(site: SiteFolder, report: Callable[[str], None]) -> None:
    """Take part in federations until SIGTERM or Ctrl-C ends this process, and report what changes.

    Raises:
        UserError: it runs already, or the worker does not come up at the start.
    """
    refusal = f"{site.folder}: this site is running already; see fedtransfer client status"
    with processes.only_process(site.state, refusal):
        site.connection.unlink(missing_ok=True)
        supervisor = _Supervisor(site, report)
        try:
            supervisor.start_worker()
            while True:
                supervisor.supervise_once()
                time.sleep(TICK_SECONDS)
        except KeyboardInterrupt:
            supervisor.report("stopping")
        finally:
            supervisor.end("supernode", "superexec", "worker")
            site.connection.unlink(missing_ok=True)


class _Supervisor:
    """Supervises a site's processes: ``worker``, ``supernode`` and ``superexec``."""

    def __init__(self, site: SiteFolder, report: Callable[[str], None]) -> None:
        self._site, self._report = site, report
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._log, self._read = site.state / "supernode.log", 0
        self._pulse, self._pulse_time, self._renewal_time = 0, 0.0, 0.0
        self._pause, self._due, self._last_trouble, self._trouble = PAUSE_SECONDS[0], 0.0, 0.0, ""

    def report(self, line: str) -> None:
        """Report a line; a full disk, on which the log may be, is no reason to end."""
        with suppress(OSError):
            self._report(line)

    def supervise_once(self) -> None:
        """Start again what has died, is confused or silent; report a trouble once, and go on."""
        try:
            for log in self._site.state.glob("*.log"):
                processes.rotate(log)
            self._end_unsound()
            missing = {"worker", "supernode"} - self._processes.keys()
            if missing and time.monotonic() >= self._due:
                if "worker" in missing:
                    self.start_worker()
                if "supernode" in missing:
                    self.start_supernode()
                self._trouble = ""
        except httpx.HTTPError as error:
            self._postpone(cause(error, self._site.settings.coordinator))
        except (UserError, OSError) as error:
            self._postpone(str(error))
        except Exception as error:  # whatever else it is, the site must not end
            self._postpone(f"{type(error).__name__}: {error}")

    def start_worker(self) -> None:
        """Start the worker, and wait until it is ready."""
        command = [sys.executable, "-P", "-m", "fedtransfer.client.deployment.worker", str(self._site.folder)]
        log = self._site.state / "worker.log"
        self.report("starting the worker")
        begin = processes.log_size(log)
        process = processes.spawn(command, log, {})
        try:
            processes.wait_until_up(
                "the worker", process, lambda: worker_status(self._site) is not None, log, self.report, begin
            )
        except BaseException:
            processes.end(process)
            raise
        self._processes["worker"] = process
        self.report("the worker is ready")

    def start_supernode(self) -> None:
        """Start SuperNode; first report to the coordinator if the last one crashed.

        Raises:
            UserError: the coordinator refuses the site.
            httpx.HTTPError: it cannot be reached.
            OSError: the disk is full.
        """
        coordinator = self._site.settings.coordinator
        if end_renewal(self._site):
            self.report("the coordinator has taken up the new key")
        with connect(self._site) as fleet:
            if fleet.end_last_session():
                self.report("the last SuperNode crashed; its open messages are given up")
                time.sleep(NOTICE_SECONDS)
            if not fleet.is_enrolled():
                raise UserError(
                    f"the coordinator {coordinator} refuses this site: its key is not enrolled, or was "
                    "revoked; ask the coordinator's people"
                )
        self._read = processes.log_size(self._log)
        ConditionFile(self._site.connection).down("")  # it has not tried yet
        self._processes |= start_supernode(self._site)
        self._pulse_time = time.monotonic()
        self.report(f"connecting to {coordinator}; waiting for runs")

    def end(self, *names: str) -> None:
        """Stop these processes."""
        for name in names:
            if process := self._processes.pop(name, None):
                processes.end(process)

    def _end_unsound(self) -> None:
        """End SuperNode and SuperExec if one died, is confused or silent, or has an old key."""
        dead = {name: p.returncode for name, p in self._processes.items() if p.poll() is not None}
        self.end(*dead)
        if "supernode" not in self._processes or "superexec" not in self._processes:
            self.end("supernode", "superexec")
        if dead:
            names, status = ", ".join(dead), next(iter(dead.values()))
            condition = read_condition(self._site.connection) if "supernode" in dead else None
            why = f": {condition.why}" if condition and condition.why else ""
            self._postpone(f"{names} ended (exit status {status}){why}; starting again")
        elif "supernode" not in self._processes:
            return
        elif self._is_confused():
            self.end("supernode", "superexec")
            self.report("a run ended in the middle of a message; SuperNode is restarted")
        elif self._is_renewed():
            self.end("supernode", "superexec")
            self.report("the coordinator has taken up the new key; SuperNode starts again with it")
        elif (silence := self._silence()) > SILENT_SECONDS:
            self.end("supernode", "superexec")
            self._postpone(f"SuperNode showed no sign of life for {silence:.0f} s; starting it again")

    def _silence(self) -> float:
        """Return for how many seconds SuperNode's pulse has not changed."""
        if (latest := pulse(self._site.connection)) != self._pulse:
            self._pulse, self._pulse_time = latest, time.monotonic()
        return time.monotonic() - self._pulse_time

    def _is_renewed(self) -> bool:
        """Whether the site's next key, if there is one, is its key from now on."""
        if time.monotonic() - self._renewal_time < RENEWAL_SECONDS:
            return False
        self._renewal_time = time.monotonic()
        return end_renewal(self._site)

    def _is_confused(self) -> bool:
        if not self._log.exists():
            return False
        with self._log.open("rb") as file:
            begin = self._read if self._read <= self._log.stat().st_size else 0
            file.seek(begin)
            lines, newline, _ = file.read().rpartition(b"\n")
        self._read = begin + len(lines) + len(newline)
        return CONFUSED in lines

    def _postpone(self, trouble: str) -> None:
        """Report a trouble, once, and put the next try off, for longer if there was one before."""
        now = time.monotonic()
        soon = now - max(self._last_trouble, self._due) < SOUND_SECONDS
        self._pause = min(2 * self._pause, PAUSE_SECONDS[1]) if soon else PAUSE_SECONDS[0]
        self._last_trouble, self._due = now, now + self._pause * random.SystemRandom().uniform(0.5, 1.0)
        if "supernode" not in self._processes:  # else it keeps the record itself
            ConditionFile(self._site.connection).down(trouble)
        if trouble != self._trouble:
            self.report(trouble)
        self._trouble = trouble
