"""A hostile coordinator: Flower's own SuperLink on its certificates and database, no gate."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import forked
from deployment.federation import CoordinatorParty
from waiting import wait_until

from fedtransfer.common.support.processes import QUIET
from fedtransfer.common.support.services import is_serving
from fedtransfer.server.deployment.coordinator import Coordinator


@contextmanager
def ungated(party: CoordinatorParty) -> Iterator[None]:
    """Replace a running coordinator, which is started again at the end."""
    coordinator, state = Coordinator.open(party.folder), party.folder / "state"
    party.stop()
    tools = Path(forked.python()).parent
    command = [
        str(Path(sys.executable).parent / "flower-superlink"),
        "--host", "127.0.0.1", "--port", str(party.port),
        "--ssl-ca-certfile", str(coordinator.certificates / "ca.crt"),
        "--ssl-certfile", str(coordinator.certificates / "server.crt"),
        "--ssl-keyfile", str(coordinator.certificates / "server.key"),
        "--enable-supernode-auth", "--database", str(state / "superlink.db"), "--isolation", "subprocess",
        "--disable-runtime-dependency-installation",
        "--health-server-address", coordinator.health_address,
    ]  # fmt: skip
    environment = {
        **os.environ,
        **QUIET,
        "PATH": f"{tools}:/usr/bin:/bin",
        "FLWR_HOME": str(state / "flower"),
    }
    process = forked.start(*command, output=state / "ungated.log", env=environment, nested=True)
    try:
        wait_until(lambda: is_serving(coordinator.health_address), "SuperLink serves", process.died)
        yield
    finally:
        process.terminate()
        process.wait(60)
        party.start()
