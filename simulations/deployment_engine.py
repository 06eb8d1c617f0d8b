"""The ``deployment`` engine: the simulated sites as a real federation on this machine.

A coordinator and a process tree a site, with TLS, a key pair each, and Flower's SuperLink and SuperNodes between
them, on loopback. Slow to start (each site imports TensorFlow) and to run (Flower polls); it is there to see, on one
machine, what separate hosts would do. Their folders stay below the run folder, in ``deployment/``.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import tomli_w

from client.deployment.founding import found_site
from client.deployment.settings import SETTINGS, SiteFolder
from client.deployment.status import is_connected
from common.config import RunConfig
from common.errors import UserError
from common.features import default_store
from common.processes import end, last_lines, spawn
from server.deployment.coordinator import Coordinator
from server.deployment.current import Current, read_current, write_current
from server.deployment.enrolment import enrol
from server.deployment.founding import found_coordinator
from server.deployment.status import describe, event_in_words, events

READY_SECONDS = 60.0  # for the coordinator, and for each site besides


def run_deployed(manifests: Mapping[str, Path], config: RunConfig, told: Callable[[str], None]) -> None:
    """Run a federation to its end.

    Args:
        manifests: site → its images.
        config: the run config; the run folder is ``config.out``.
        told: is given a line for each thing that happens.

    Raises:
        UserError: a process does not come up, or the run fails.
    """
    if config.log_json:
        raise UserError(
            "--log-json: with --engine deployment the events are in the run folder's events.jsonl; leave it out"
        )
    root = Path(config.out) / "deployment"
    config = config.model_copy(update={"log_json": str(Path(config.out) / "events.jsonl")})
    coordinator = _coordinator(root / "coordinator")
    sites = [_site(root / name, name, coordinator, manifest, config) for name, manifest in manifests.items()]
    processes = []
    try:
        processes.append(_start(["server"], coordinator.folder, lambda: describe(coordinator)["serving"], 1))
        told(f"coordinator: {coordinator.folder}")
        started = [_spawn(["client"], site.folder) for site in sites]
        processes += started
        for site, process in zip(sites, started, strict=True):
            _wait(process, site.folder, lambda site=site: is_connected(site), len(sites))  # type: ignore[misc]
            told(f"site: {site.folder}")
        write_current(coordinator, Current("run", config.to_flat()))
        _follow(coordinator, config, told)
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            end(process, 30.0)


def _coordinator(folder: Path) -> Coordinator:
    if (folder / "coordinator.toml").exists():  # the run is resumed
        return Coordinator.open(folder)
    superlink, health = _free_ports(2)
    return found_coordinator(folder, ["localhost"], port=9443, superlink_port=superlink, health_port=health, user="")


def _site(folder: Path, name: str, coordinator: Coordinator, manifest: Path, config: RunConfig) -> SiteFolder:
    if (folder / SETTINGS).exists():
        return SiteFolder.open(folder)
    address = f"localhost:{coordinator.settings.superlink_port}"
    site = found_site(folder, name, address, coordinator.certificates / "ca.crt", manifest)
    own = {
        "store": config.store or str(default_store()),
        "threads": 1,
        "strict": config.strict,
        "weights": config.weights,
    }
    settings = site.settings.model_copy(update=own).model_dump(by_alias=True)
    (folder / SETTINGS).write_text(tomli_w.dumps(settings), "utf-8")
    enrol(coordinator, site.key.with_suffix(".pub"))
    return SiteFolder.open(folder)


def _follow(coordinator: Coordinator, config: RunConfig, told: Callable[[str], None]) -> None:
    shown = 0
    while True:
        current = read_current(coordinator)
        happened = list(events(Path(config.out)))
        for event in happened[shown:]:
            told(event_in_words(event))
        shown = len(happened)
        if current and not current.is_open:
            break
        time.sleep(0.3)
    if current.status != "finished":
        raise UserError(f"the run {current.status}: {current.why}; see {coordinator.state / 'superlink.log'}")


def _start(role: Sequence[str], folder: Path, ready: Callable[[], bool], number: int) -> subprocess.Popen[bytes]:
    process = _spawn(role, folder)
    _wait(process, folder, ready, number)
    return process


def _spawn(role: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fedtransfer", *role, "start", "--dir", str(folder)]
    return spawn(command, folder / "state" / "out.log", {})


def _wait(process: subprocess.Popen[bytes], folder: Path, ready: Callable[[], bool], number: int) -> None:
    deadline = time.monotonic() + READY_SECONDS * number
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise UserError(f"{folder} does not come up; its log says:\n{last_lines(folder / 'state' / 'out.log')}")
        time.sleep(0.3)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
