"""The disks of coordinator and site are full for a while: nobody ends, and the run goes on."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from deployment.federation import CoordinatorParty, SiteParty, start_all, stopping
from pictures import class_folders
from waiting import patient, wait_until

from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.client.deployment.status import describe
from fedtransfer.server.callbacks.tables import read_history

pytestmark = pytest.mark.full

DISK_BYTES = 300_000_000
FULL_SECONDS = 10.0


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of DISK_BYTES bytes; only root can."""
    folder.mkdir()
    options = ("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder))
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def full(*disks: Path) -> Iterator[None]:
    """Fill disks to the last byte."""
    fillers = [disk / "filler" for disk in disks]
    for filler in fillers:
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(2**20))
        with filler.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(2**10))
    try:
        yield
    finally:
        for filler in fillers:
            filler.unlink()


def test_disks_are_full_for_a_while(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    with ExitStack() as stack:
        hub, place = (stack.enter_context(small_disk(tmp_path / name)) for name in ("hub", "place"))
        coordinator = CoordinatorParty(hub / "coordinator")
        data = class_folders(tmp_path / "images", 1)
        site = SiteParty(place / "north", "north", coordinator, data)
        stack.enter_context(stopping(site, coordinator))
        start_all(coordinator, site)
        options = ("--rounds", "1000", "--sites", "1", "--min-sites", "1")
        timeout = ("--round-timeout", str(patient(30)))  # of an answer that found no room
        coordinator.command("run", "--detach", "--name", "run", *options, *timeout)
        coordinator.wait_for_round(3)
        with full(hub, place):
            since = time.monotonic()
            [warning] = coordinator.status()["warnings"]
            assert f"the disk of {coordinator.folder} is full: " in warning
            [warning] = describe(SiteFolder.open(site.folder))["warnings"]
            assert f"the disk of {site.folder} is full: " in warning
            last = coordinator.rounds()[-1]["round"]
            wait_until(lambda: time.monotonic() > since + FULL_SECONDS, "the disks were full for a while")
            assert coordinator.rounds()[-1]["round"] <= last + 1
        coordinator.wait_for_round(last + 3)
        coordinator.command("stop", "--run")
        wait_until(lambda: coordinator.status()["run"]["status"] == "stopped", "the run is stopped")
        # A round whose checkpoint found no room is made again, and is in the log of events twice.
        history = read_history(coordinator.folder / "runs" / "run")
        rounds = [int(row["round"]) for row in history if (row["phase"], row["status"]) == ("train", "ok")]
        assert rounds == [*range(1, len(rounds) + 1)]
        assert len(rounds) >= last + 3
        for party in (coordinator, site):
            assert party.process
            assert party.process.poll() is None, "it went on"
        assert coordinator.status()["warnings"] == []
