"""``fedtransfer client start``: the warm worker and Flower's SuperNode, started and watched over."""

import logging
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import tomli_w
from filelock import FileLock, Timeout

from client.deployment import launcher
from client.deployment.fleet import connect
from client.deployment.settings import SiteFolder
from client.deployment.worker import socket_of, worker_status
from common.errors import UserError
from common.processes import end, free_port, last_lines, rotate, spawn, tool

log = logging.getLogger(__name__)

WORKER_SECONDS = 120.0  # the longest that importing TensorFlow may take
NOTICE_SECONDS = 2.0  # in which the coordinator notices that a SuperNode is gone
PAUSE_SECONDS = (1.0, 30.0)  # before a process that died is started again: first, and at most


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
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{site.folder}: this site is running already; see fedtransfer client status") from None
    (site.state / "pid").write_text(str(os.getpid()))
    signal.signal(signal.SIGTERM, _interrupt)
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        with connect(site) as fleet:
            if fleet.end_last_life():
                told("the last SuperNode died without a word; what it was asked is given up")
                time.sleep(NOTICE_SECONDS)
        processes["worker"] = _start_worker(site)
        told("the worker is ready")
        processes |= _start_supernode(site)
        told(f"connecting to {site.settings.coordinator}; waiting for runs")
        _watch(site, processes, told)
    except KeyboardInterrupt:
        told("stopping")
    finally:
        for name in ("supernode", "superexec", "worker"):
            if name in processes:
                end(processes[name])
        (site.state / "pid").unlink(missing_ok=True)
        lock.release()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _watch(site: SiteFolder, processes: dict[str, subprocess.Popen[bytes]], told: Callable[[str], None]) -> None:
    """Start again what dies; give up where the coordinator does not let the site in."""
    pause = PAUSE_SECONDS[0]
    last_death = 0.0
    while True:
        time.sleep(0.5)
        for log_file in site.state.glob("*.log"):
            rotate(log_file)
        dead = [name for name, process in processes.items() if process.poll() is not None]
        if not dead:
            continue
        told(f"{', '.join(dead)} ended (exit status {processes[dead[0]].returncode}); starting again")
        pause = PAUSE_SECONDS[0] if time.monotonic() - last_death > 60 else min(2 * pause, PAUSE_SECONDS[1])
        last_death = time.monotonic()
        time.sleep(pause)
        if "worker" in dead:
            processes["worker"] = _start_worker(site)
        if {"supernode", "superexec"} & set(dead):
            end(processes["supernode"])
            end(processes["superexec"])
            _refuse_if_not_enrolled(site)
            processes |= _start_supernode(site)


def _refuse_if_not_enrolled(site: SiteFolder) -> None:
    try:
        with connect(site) as fleet:
            fleet.end_last_life()
            time.sleep(NOTICE_SECONDS)
            if not fleet.is_enrolled():
                raise UserError(
                    f"the coordinator {site.settings.coordinator} no longer lets this site in: its key is not enrolled, "
                    "or was revoked; ask the coordinator's people"
                )
    except httpx.TransportError:
        return  # not to be reached now: SuperNode tries until it is


def _start_worker(site: SiteFolder) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "client.deployment", str(site.folder)]
    process = spawn(command, site.state / "worker.log", {})
    deadline = time.monotonic() + WORKER_SECONDS
    while worker_status(site) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            end(process)
            raise UserError(f"the worker does not come up; its log says:\n{last_lines(site.state / 'worker.log')}")
        time.sleep(0.2)
    return process


def _start_supernode(site: SiteFolder) -> dict[str, subprocess.Popen[bytes]]:
    """Start SuperNode, and the SuperExec that hands its messages to the worker.

    SuperNode's local Runtime API would let any user of this machine take messages; with a secret it does not.
    """
    secret = site.state / "superexec.secret"
    secret.unlink(missing_ok=True)
    descriptor = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(32))
    (site.state / "node.toml").write_text(tomli_w.dumps({"site": str(site.folder)}), "utf-8")
    port, health = free_port(), free_port()
    runtime = f"127.0.0.1:{port}"
    supernode = [
        tool("flower-supernode"),
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
        tool("flower-superexec"), "--insecure", "--runtime-api-address", runtime,
        "--superexec-auth-secret-file", str(secret), "--parent-pid", str(os.getpid()),
    ]  # fmt: skip
    started = {"supernode": spawn(supernode, site.state / "supernode.log", {"FLWR_HOME": str(site.state / "flower")})}
    environment = {
        "PATH": str(_only_launcher(site)),
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "FLWR_HOME": str(site.state / "flower"),
    }
    started["superexec"] = spawn(superexec, site.state / "supernode.log", environment)
    (site.state / "health-port").write_text(str(health))
    return started


def _only_launcher(site: SiteFolder) -> Path:
    """Make the folder that is SuperExec's whole PATH: all that it can start is our launcher."""
    folder = site.state / "bin"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    script = folder / "flwr-clientapp"
    words = [sys.executable, "-I", "-S", launcher.__file__, str(socket_of(site))]
    script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', "utf-8")
    script.chmod(0o755)
    return folder
