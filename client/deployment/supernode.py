"""Flower's SuperNode at a site, and the SuperExec that passes its messages to the warm worker."""

import os
import secrets
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import tomli_w

from fedtransfer.client.deployment import launcher
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.client.deployment.worker import socket_of
from fedtransfer.common.support.processes import free_port, spawn, tool


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
    port, health = free_port(), free_port()
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
        tool("flower-superexec"), "--insecure", "--runtime-api-address", runtime,
        "--superexec-auth-secret-file", str(secret), "--parent-pid", str(os.getpid()),
    ]  # fmt: skip
    processes = {"supernode": spawn(supernode, site.state / "supernode.log", {"FLWR_HOME": str(site.state / "flower")})}
    environment = {
        "PATH": str(_only_launcher(site)),
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "FLWR_HOME": str(site.state / "flower"),
    }
    processes["superexec"] = spawn(superexec, site.state / "supernode.log", environment)
    (site.state / "health-port").write_text(str(health))
    return processes


def _only_launcher(site: SiteFolder) -> Path:
    """Make the folder that is SuperExec's whole PATH, so that it can start only our launcher."""
    folder = site.state / "bin"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    script = folder / "flwr-clientapp"
    command = [sys.executable, "-I", "-S", launcher.__file__, str(socket_of(site))]
    script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', "utf-8")
    script.chmod(0o755)
    return folder
