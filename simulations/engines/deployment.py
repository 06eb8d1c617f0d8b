"""The ``deployment`` engine: the simulated sites as a real federation on this machine.

It starts a coordinator and a process tree for each site, with TLS and keys, which talk through
Flower's SuperLink and SuperNodes on loopback. It starts slowly (each site is three processes) and
runs slowly (Flower polls); it shows on one machine what separate hosts would do. The folders stay
in ``deployment/`` in the run folder.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tomli_w

from fedtransfer.client.deployment.founding import found_site
from fedtransfer.client.deployment.settings import SETTINGS, SiteFolder
from fedtransfer.client.deployment.status import is_up
from fedtransfer.common.config.config import BUNDLED, RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.store import default_store
from fedtransfer.common.support.processes import end, free_port, spawn, wait_until_up
from fedtransfer.common.support.text import counted
from fedtransfer.server.deployment.coordinator import Coordinator
from fedtransfer.server.deployment.current import Current, edit_current, read_current, write_current
from fedtransfer.server.deployment.enrolment import enrol
from fedtransfer.server.deployment.founding import found_coordinator
from fedtransfer.server.deployment.status import describe, event_line, events, wait_until_accepted

Report = Callable[[str], None]  # takes a line for each event


@dataclass
class Deployed:
    """A federation of real processes; make one with ``deployed``."""

    coordinator: Coordinator
    config: RunConfig
    _sites: list[subprocess.Popen[bytes]]
    _report: Report

    def run(self) -> None:
        """Run the config to its end.

        Raises:
            UserError: the run fails.
        """
        with edit_current(self.coordinator) as current:
            goes_on = current is not None and current.is_open  # a resumed run, which the supervisor has
        if not goes_on:
            write_current(self.coordinator, Current("run", self.config.to_flat()))
        reported, current = 0, None
        while not current or current.is_open:
            time.sleep(0.3)
            current = read_current(self.coordinator)
            for event in events(Path(self.config.out))[reported:]:
                self._report(event_line(event))
                reported += 1
        if current.status != "finished":
            log_file = self.coordinator.state / "superlink.log"
            raise UserError(f"the run {current.status}: {current.why}; see {log_file}")

    def stop_sites(self) -> None:
        """Stop all sites at the same time."""
        for process in self._sites:
            process.terminate()
        for process in self._sites:
            end(process, 30.0)


@contextmanager
def deployed(manifests: Mapping[str, Path], config: RunConfig, report: Report) -> Iterator[Deployed]:
    """Start a coordinator and the sites, each with its manifest, and stop them at the end.

    Raises:
        UserError: a process ends while it starts, or the sites are not up within
            ``--join-timeout`` times their number.
    """
    if config.log_json:
        where = "the events are in the run folder's events.jsonl"
        raise UserError(f"--log-json: with --engine deployment {where}; leave it out")
    root = Path(config.out) / "deployment"
    config = config.model_copy(update={"log_json": str(Path(config.out) / "events.jsonl")})
    if (root / "coordinator" / "coordinator.toml").exists():  # the run is resumed
        coordinator = Coordinator.open(root / "coordinator")
    else:
        ports = {"port": 9443, "superlink_port": free_port(), "health_port": free_port()}
        coordinator = found_coordinator(root / "coordinator", ["localhost"], **ports, user="")
    sites = [_site(root / name, name, coordinator, manifest, config) for name, manifest in manifests.items()]
    server = _spawn("server", coordinator.folder)
    federation = Deployed(coordinator, config, [], report)
    try:
        log, number = _log(coordinator.folder), counted(len(sites), "site")
        wait_until_up("the coordinator", server, lambda: bool(describe(coordinator)["serving"]), log, report)
        report(f"coordinator: {coordinator.folder}")
        wait_until_accepted(coordinator, list(manifests))
        federation._sites += [_spawn("client", site.folder) for site in sites]
        report(f"{number} start; each takes seconds on a core")
        seconds = config.join_timeout * len(sites)
        setting = f"--join-timeout {config.join_timeout:g} for each of {number}"
        for site, process in zip(sites, federation._sites, strict=True):
            name, log = f"site {site.settings.name}", _log(site.folder)
            wait_until_up(name, process, partial(is_up, site), log, report, 0, seconds, setting)
            report(f"site: {site.folder}")
        yield federation
    finally:
        federation.stop_sites()
        end(server, 30.0)


def _site(folder: Path, name: str, coordinator: Coordinator, manifest: Path, config: RunConfig) -> SiteFolder:
    if (folder / SETTINGS).exists():
        return SiteFolder.open(folder)
    address = f"localhost:{coordinator.settings.superlink_port}"
    site = found_site(folder, name, address, coordinator.certificates / "ca.crt", manifest)
    changes = {name: getattr(config, name) for name in ("strict", "weights", "feature_statistics", "compute")}
    changes |= {"store": config.store or str(default_store()), "threads": 1}
    changes["backbone"] = "" if config.backbone == BUNDLED else config.backbone
    settings = site.settings.model_copy(update=changes).model_dump(by_alias=True)
    (folder / SETTINGS).write_text(tomli_w.dumps(settings), "utf-8")
    enrol(coordinator, site.key.with_suffix(".pub"))
    return SiteFolder.open(folder)


def _spawn(role: str, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "fedtransfer", role, "start", "--dir", str(folder)]
    return spawn(command, _log(folder), {})


def _log(folder: Path) -> Path:
    return folder / "state" / "out.log"
