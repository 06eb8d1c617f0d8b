"""``fedtransfer client start``: starts and supervises the warm worker and Flower's SuperNode."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import tomli_w

from fedtransfer.client.deployment import launcher
from fedtransfer.client.deployment.fleet import connect
from fedtransfer.client.deployment.renewal import end_renewal
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.client.deployment.worker import socket_of, worker_status
from fedtransfer.common.errors import UserError
from fedtransfer.common.support import processes

TICK_SECONDS = 0.5
NOTICE_SECONDS = 2.0  # in which the coordinator notices that a SuperNode is gone
RENEWAL_SECONDS = 10.0  # between two looks whether the coordinator has taken up the next key
PAUSE_SECONDS = (1.0, 30.0)  # before the restart of a process that died: shortest and longest
# Flower 1.41's SuperNode logs this if a run ends while it receives a message of that run. It keeps
# the incomplete message, would take its late answer for that of the next one, and hold that one
# back: it must be restarted.
CONFUSED = b"Ignoring message"


def run_site(site: SiteFolder, report: Callable[[str], None]) -> None:
    """Take part in federations until SIGTERM or Ctrl-C ends this process, and report what changes.

    Raises:
        UserError: it runs already, the worker does not come up, or the site is not enrolled.
    """
    site.state.mkdir(mode=0o700, exist_ok=True)
    refusal = f"{site.folder}: this site is running already; see fedtransfer client status"
    with processes.only_process(site.state, refusal):
        supervisor = _Supervisor(site, report)
        try:
            supervisor.start_worker()
            supervisor.start_supernode()
            while True:
                time.sleep(TICK_SECONDS)
                supervisor.supervise_once()
        except KeyboardInterrupt:
            report("stopping")
        finally:
            supervisor.end("supernode", "superexec", "worker")


class _Supervisor:
    """Supervises a site's processes: ``worker``, ``supernode`` and ``superexec``."""

    def __init__(self, site: SiteFolder, report: Callable[[str], None]) -> None:
        self._site, self._report = site, report
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._log, self._read = site.state / "supernode.log", 0
        self._looked = 0.0
        self._pause, self._last_death = PAUSE_SECONDS[0], 0.0

    def start_worker(self) -> None:
        """Start the worker, and wait until it is ready."""
        command = [sys.executable, "-P", "-m", "fedtransfer.client.deployment.worker", str(self._site.folder)]
        log = self._site.state / "worker.log"
        self._report("starting the worker")
        begin = processes.log_size(log)
        self._processes["worker"] = process = processes.spawn(command, log, {})
        processes.wait_until_up(
            "the worker", process, lambda: worker_status(self._site) is not None, log, self._report, begin
        )
        self._report("the worker is ready")

    def start_supernode(self) -> None:
        """Start SuperNode; first report to the coordinator if the last one crashed.

        Raises:
            UserError: the site is not enrolled.
        """
        coordinator = self._site.settings.coordinator
        if end_renewal(self._site):
            self._report("the coordinator has taken up the new key")
        try:
            with connect(self._site) as fleet:
                if fleet.end_last_session():
                    self._report("the last SuperNode crashed; its open messages are given up")
                    time.sleep(NOTICE_SECONDS)
                if not fleet.is_enrolled():
                    raise UserError(
                        f"the coordinator {coordinator} refuses this site: its key is not enrolled, or was "
                        "revoked; ask the coordinator's people"
                    )
        except httpx.HTTPError:
            self._report(f"{coordinator} cannot be reached now; SuperNode keeps trying")
        self._read = self._log.stat().st_size if self._log.exists() else 0
        self._processes |= start_supernode(self._site)
        self._report(f"connecting to {coordinator}; waiting for runs")

    def supervise_once(self) -> None:
        """Restart processes that have died, and a SuperNode that is confused."""
        for log in self._site.state.glob("*.log"):
            processes.rotate(log)
        dead = [name for name, process in self._processes.items() if process.poll() is not None]
        if dead:
            self._report(
                f"{', '.join(dead)} ended (exit status {self._processes[dead[0]].returncode}); starting again"
            )
            self._wait()
        if "worker" in dead:
            self.start_worker()
        renewed = self._is_renewed()
        confused = self._is_confused()
        if confused:
            self._report("a run ended in the middle of a message; SuperNode is restarted")
        if renewed:
            self._report("the coordinator has taken up the new key; SuperNode starts again with it")
        if renewed or confused or {"supernode", "superexec"} & set(dead):
            self.end("supernode", "superexec")
            self.start_supernode()

    def end(self, *names: str) -> None:
        """Stop these processes."""
        for name in names:
            if name in self._processes:
                processes.end(self._processes[name])

    def _is_renewed(self) -> bool:
        """Whether the site's next key, if there is one, is its key from now on."""
        if time.monotonic() - self._looked < RENEWAL_SECONDS:
            return False
        self._looked = time.monotonic()
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

    def _wait(self) -> None:
        """Wait before a restart, longer if processes die often."""
        soon = time.monotonic() - self._last_death < 60
        self._pause = min(2 * self._pause, PAUSE_SECONDS[1]) if soon else PAUSE_SECONDS[0]
        self._last_death = time.monotonic()
        time.sleep(self._pause)


def start_supernode(site: SiteFolder) -> dict[str, subprocess.Popen[bytes]]:
    """Start SuperNode, and the SuperExec that passes its messages to the worker.

    The secret keeps other users of this machine from SuperNode's local Runtime API.
    """
    secret = site.state / "superexec.secret"
    secret.unlink(missing_ok=True)
    descriptor = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(32))
    (site.state / "node.toml").write_text(tomli_w.dumps({"site": str(site.folder)}), "utf-8")
    port, health = processes.free_port(), processes.free_port()
    runtime = f"127.0.0.1:{port}"
    supernode = [
        sys.executable, "-P", "-m", "fedtransfer.client.deployment.eager_supernode",
        "--superlink", site.settings.coordinator,
        "--root-certificates", str(site.authority),
        "--auth-supernode-private-key", str(site.key),
        "--node-config", str(site.state / "node.toml"),
        "--isolation", "process",
        "--host", "127.0.0.1", "--port", str(port),
        "--superexec-auth-secret-file", str(secret),
        "--health-server-address", f"127.0.0.1:{health}",
    ]  # fmt: skip
    superexec = [
        *processes.superexec_words(), "--insecure", "--runtime-api-address", runtime,
        "--superexec-auth-secret-file", str(secret), "--parent-pid", str(os.getpid()),
    ]  # fmt: skip
    log, home = site.state / "supernode.log", {"FLWR_HOME": str(site.state / "flower")}
    alone = {"PATH": str(_only_launcher(site)), "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2"}
    started = {
        "supernode": processes.spawn(supernode, log, home),
        "superexec": processes.spawn(superexec, log, home | alone),
    }
    (site.state / "health-port").write_text(str(health))
    return started


def _only_launcher(site: SiteFolder) -> Path:
    """Make the folder that is SuperExec's whole PATH, so that it can start only our launcher."""
    words = [sys.executable, "-I", "-S", launcher.__file__, str(socket_of(site))]
    return processes.only_command(site.state / "bin", "flwr-clientapp", words)
