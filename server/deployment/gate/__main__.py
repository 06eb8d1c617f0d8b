"""SuperLink behind the gate: ``python -m fedtransfer.server.deployment.gate FOLDER``.

FOLDER is the coordinator's. SuperLink, SuperExec and the tasks' processes are Flower's. SuperExec
shows a secret when it takes a task, and gives tokens of tasks to nobody else.
"""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

import uvicorn
from flwr.supercore.http_logging import get_uvicorn_log_config
from flwr.supercore.logger import console_handler
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan, _parse_superlink_lifespan_config
from flwr.superlink.main import create_app

from fedtransfer.common.support.files import write_whole
from fedtransfer.common.support.processes import superexec_words
from fedtransfer.common.wire.bundle import build_bundle
from fedtransfer.server.deployment.attendance import Attendance
from fedtransfer.server.deployment.coordinator import Coordinator
from fedtransfer.server.deployment.gate import database
from fedtransfer.server.deployment.gate.gate import Gate
from fedtransfer.server.deployment.gate.refusals import Register

PAUSE_SECONDS = 2.0  # before SuperExec starts again; an ending SuperLink waits 1 s for its end


class Lifespan(SuperLinkLifespan):
    """SuperLink's life with a SuperExec that has a secret, which Flower's own start lacks."""

    secret: Path  # of SuperExec

    def _start_superexec_if_needed(self) -> None:
        command = [
            *superexec_words(),
            "--root-certificates", str(self.config.ssl_ca_certfile),
            "--runtime-api-address", f"{self.config.host}:{self.config.port}",
            "--superexec-auth-secret-file", str(self.secret),
            "--parent-pid", str(os.getpid()),
        ]  # fmt: skip
        self.superexec_process = subprocess.Popen(command)
        Thread(target=self._keep_superexec, args=(command,), daemon=True).start()

    def _keep_superexec(self, command: Sequence[str]) -> None:
        """Start SuperExec again whenever it has died: without it no run starts any more."""
        while (process := self.superexec_process) is not None:
            process.wait()
            time.sleep(PAUSE_SECONDS)
            if self.superexec_process is process:  # else SuperLink is ending
                self.superexec_process = subprocess.Popen(command)


def serve(coordinator: Coordinator) -> None:
    """Serve until SIGTERM, with a new token for the Control API."""
    certificates, state = coordinator.certificates, coordinator.state
    path = state / "superlink.db"
    database.prepare(path)
    token = coordinator.renew_token()
    Lifespan.secret = state / "superexec.secret"
    write_whole(Lifespan.secret, secrets.token_hex(32), mode=0o600)
    sys.argv = [
        "flower-superlink",
        "--host", "127.0.0.1", "--port", str(coordinator.settings.superlink_port),
        "--ssl-ca-certfile", str(certificates / "ca.crt"),
        "--ssl-certfile", str(certificates / "server.crt"),
        "--ssl-keyfile", str(certificates / "server.key"),
        "--enable-supernode-auth",
        "--database", str(path),
        "--isolation", "process", "--superexec-auth-secret-file", str(Lifespan.secret),
        "--disable-runtime-dependency-installation",
        "--health-server-address", coordinator.health_address,
    ]  # fmt: skip
    config = _parse_superlink_lifespan_config()
    app = create_app(config, Lifespan)
    factory = app.state.linkstate_factory
    database.clean_in_background(factory.state(), path)
    bundle = build_bundle()[1]
    gate = Gate(app, factory.state, token, bundle, Register(state), Attendance(state), database.Locks())
    uvicorn.run(
        gate,
        host=config.host,
        port=config.port,
        log_config=get_uvicorn_log_config(console_handler.level),
        ssl_keyfile=config.ssl_keyfile,
        ssl_certfile=config.ssl_certfile,
        ws="none",
    )


if __name__ == "__main__":
    serve(Coordinator.open(Path(sys.argv[1])))
