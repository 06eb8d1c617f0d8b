"""Start Flower's SuperNode, and the SuperExec that passes its messages to the warm worker."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import tomli_w

from fedtransfer.client.deployment import launcher
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.client.deployment.worker import socket_of
from fedtransfer.common.support import processes
from fedtransfer.common.support.files import write_whole


def start_supernode(site: SiteFolder) -> dict[str, subprocess.Popen[bytes]]:
    """Start SuperNode, and the SuperExec that passes its messages to the worker.

    The secret keeps other users of this machine from SuperNode's local Runtime API.

    Raises:
        OSError: the disk is full, or this user may not write to the site's folder.
    """
    secret = site.state / "superexec.secret"
    secret.unlink(missing_ok=True)
    write_whole(secret, secrets.token_bytes(32), mode=0o600)
    write_whole(site.state / "node.toml", tomli_w.dumps({"site": str(site.folder)}))
    launchers = _only_launcher(site)
    port, health = processes.free_port(), processes.free_port()
    write_whole(site.state / "health-port", str(health))
    runtime = f"127.0.0.1:{port}"
    supernode = [
        sys.executable, "-P", "-m", "fedtransfer.client.deployment.eager_supernode", str(site.connection),
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
    alone = {"PATH": str(launchers), "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2"}
    return {
        "supernode": processes.spawn(supernode, log, home),
        "superexec": processes.spawn(superexec, log, home | alone),
    }


def _only_launcher(site: SiteFolder) -> Path:
    """Make the folder that is SuperExec's whole PATH, so that it can start only our launcher."""
    words = [sys.executable, "-I", "-S", launcher.__file__, str(socket_of(site))]
    return processes.only_command(site.state / "bin", "flwr-clientapp", words)
