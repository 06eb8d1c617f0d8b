"""``fedtransfer client start``: the warm worker and SuperNode, started and watched over."""

import os
import subprocess
import sys
import time
from collections.abc import Callable

import httpx
from filelock import FileLock, Timeout

from fedtransfer.client.deployment.fleet import connect
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.client.deployment.supernode import start_supernode
from fedtransfer.client.deployment.worker import worker_status
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.processes import end, log_size, rotate, spawn, wait_until_up

TICK_SECONDS = 0.5
NOTICE_SECONDS = 2.0  # in which the coordinator notices that a SuperNode is gone
PAUSE_SECONDS = (1.0, 30.0)  # before a process that died is started again: first, and at most
# What Flower 1.41's SuperNode logs when a run ends while it receives one of its messages. It then keeps the half of it,
# whose late answer it would take for that of the next message, and hold that one back: only a new SuperNode is sound.
CONFUSED = b"Ignoring message"


def run_site(site: SiteFolder, told: Callable[[str], None]) -> None:
    """Take part in federations until this process is ended (SIGTERM or Ctrl-C).

    Args:
        site: the site, whose check has passed.
        told: is given a line when something changes.

    Raises:
        UserError: it runs already, the worker does not come up, or the coordinator no longer lets the site in.
    """
    site.state.mkdir(mode=0o700, exist_ok=True)
    lock = FileLock(site.state / "running.lock")
    try:
        lock.acquire(timeout=1)  # who asks whether it runs holds it for a moment
    except Timeout:
        raise UserError(f"{site.folder}: this site is running already; see fedtransfer client status") from None
    (site.state / "pid").write_text(str(os.getpid()))
    running = _Running(site, told)
    try:
        running.start_worker()
        running.start_supernode()
        while True:
            time.sleep(TICK_SECONDS)
            running.look()
    except KeyboardInterrupt:
        told("stopping")
    finally:
        running.end("supernode", "superexec", "worker")
        (site.state / "pid").unlink(missing_ok=True)
        lock.release()


class _Running:
    """A site's processes by name: ``worker``, ``supernode`` and ``superexec``."""

    def __init__(self, site: SiteFolder, told: Callable[[str], None]) -> None:
        self._site, self._told = site, told
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._log, self._read = site.state / "supernode.log", 0
        self._pause, self._last_death = PAUSE_SECONDS[0], 0.0

    def start_worker(self) -> None:
        """Start the worker, and wait until it is ready."""
        command = [sys.executable, "-P", "-m", "fedtransfer.client.deployment", str(self._site.folder)]
        log = self._site.state / "worker.log"
        self._told("starting the worker, which imports TensorFlow")
        begin = log_size(log)
        self._processes["worker"] = process = spawn(command, log, {})
        wait_until_up("the worker", process, lambda: worker_status(self._site) is not None, log, self._told, begin)
        self._told("the worker is ready")

    def start_supernode(self) -> None:
        """Start SuperNode, after one that died without a word was reported gone.

        Raises:
            UserError: the coordinator does not let the site in.
        """
        coordinator = self._site.settings.coordinator
        try:
            with connect(self._site) as fleet:
                if fleet.end_last_life():
                    self._told("the last SuperNode ended without a word; what it was asked is given up")
                    time.sleep(NOTICE_SECONDS)
                if not fleet.is_enrolled():
                    raise UserError(
                        f"the coordinator {coordinator} no longer lets this site in: its key is not enrolled, or was "
                        "revoked; ask the coordinator's people"
                    )
        except httpx.HTTPError:
            self._told(f"{coordinator} cannot be reached now; SuperNode tries until it can")
        self._read = self._log.stat().st_size if self._log.exists() else 0
        self._processes |= start_supernode(self._site)
        self._told(f"connecting to {coordinator}; waiting for runs")

    def look(self) -> None:
        """Start again what died, or what is confused."""
        for log in self._site.state.glob("*.log"):
            rotate(log)
        dead = [name for name, process in self._processes.items() if process.poll() is not None]
        if dead:
            self._told(f"{', '.join(dead)} ended (exit status {self._processes[dead[0]].returncode}); starting again")
            self._wait()
        if "worker" in dead:
            self.start_worker()
        confused = self._is_confused()
        if confused:
            self._told("a run ended in the middle of a message; SuperNode starts anew")
        if confused or {"supernode", "superexec"} & set(dead):
            self.end("supernode", "superexec")
            self.start_supernode()

    def end(self, *names: str) -> None:
        """Stop these processes."""
        for name in names:
            if name in self._processes:
                end(self._processes[name])

    def _is_confused(self) -> bool:
        if not self._log.exists():
            return False
        with self._log.open("rb") as file:
            begin = self._read if self._read <= self._log.stat().st_size else 0
            file.seek(begin)
            lines, newline, _ = file.read().rpartition(b"\n")
        self._read = begin + len(lines) + len(newline)
        return CONFUSED in lines

    def _wait(self) -> None:
        """Wait the longer, the more often something dies."""
        soon = time.monotonic() - self._last_death < 60
        self._pause = min(2 * self._pause, PAUSE_SECONDS[1]) if soon else PAUSE_SECONDS[0]
        self._last_death = time.monotonic()
        time.sleep(self._pause)
