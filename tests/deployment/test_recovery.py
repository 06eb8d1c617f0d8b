"""Killed with -9: sites and the coordinator, alone and together. The head is as if undisturbed."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from deployment.federation import CoordinatorParty, SiteParty, arrays, stopping
from pictures import COLOURS, picture
from waiting import wait_until

from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.client.deployment.worker import worker_status
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.sources import read_source
from fedtransfer.server.app import make_app
from fedtransfer.simulations.data.sites import write_sites
from fedtransfer.simulations.federation import run_on_engine

pytestmark = pytest.mark.full

SITES = ("north", "south")
# Epochs enough that training takes seconds, so that a site can be killed in the middle of it.
SETTINGS = {"rounds": 3, "local_epochs": 25_000, "learning_rate": 0.5, "min_sites": 2}
OPTIONS = [word for key, value in SETTINGS.items() for word in (f"--{key.replace('_', '-')}", str(value))]


class Everyone:
    """The coordinator and its sites, all running, and the head of an undisturbed run."""

    def __init__(self, folder: Path) -> None:
        for number, site in enumerate(SITES):
            for c, (label, colour) in enumerate(COLOURS.items()):
                (folder / "images" / site / label).mkdir(parents=True)
                for i in range(12):
                    seed = 1000 * number + 100 * c + i
                    picture(colour, seed).save(folder / "images" / site / label / f"{i}.png")
        self.undisturbed = self._simulate(folder)
        self.coordinator = CoordinatorParty(folder / "coordinator")
        self.sites = [
            SiteParty(folder / site, site, self.coordinator, folder / "images" / site) for site in SITES
        ]  # fmt: skip

    def start(self) -> None:
        self.coordinator.start()
        for site in self.sites:
            site.start(wait=False)
        for site in self.sites:
            site.wait()

    def begin(self, name: str) -> None:
        self.coordinator.command("run", "--detach", "--name", name, *OPTIONS)

    def check(self, name: str) -> None:
        """Wait for the end, and compare the heads with those of the undisturbed run."""
        folder = self.coordinator.wait_for_end(name)
        for head in ("head.npz", "last-head.npz"):
            for got, expected in zip(arrays(folder / head), arrays(self.undisturbed / head), strict=True):
                np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
        assert [event["round"] for event in self.coordinator.rounds(name)] == [1, 2, 3]
        for site in self.sites:  # and every site holds the result
            [kept] = [
                path for path in (site.folder / "results").glob("*/head.npz") if self._is_of(path, folder)
            ]
            for got, expected in zip(arrays(kept), arrays(folder / "head.npz"), strict=True):
                np.testing.assert_array_equal(got, expected)

    def _is_of(self, kept: Path, folder: Path) -> bool:
        return f'out = "{folder}"' in (kept.parent / "config.toml").read_text("utf-8")

    def _simulate(self, folder: Path) -> Path:
        """Run the same in process; without the baselines, which would take longer than the run."""
        config = RunConfig(out=str(folder / "undisturbed"), sites=len(SITES), **SETTINGS)
        images = {site: read_source(folder / "images" / site).images for site in SITES}
        run_on_engine(make_app(), write_sites(folder / "undisturbed", config, images), config)
        return folder / "undisturbed"


@pytest.fixture(scope="module")
def everyone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everyone]:
    everyone = Everyone(tmp_path_factory.mktemp("recovery"))
    with stopping(*everyone.sites, everyone.coordinator):
        everyone.start()
        yield everyone


def is_working(site: SiteParty) -> bool:
    told = worker_status(SiteFolder.open(site.folder))
    return bool(told and told["doing_since"])


def shards(site: SiteParty) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (site.folder / "features").rglob("*.npy")}


def test_a_site_killed_in_training(everyone: Everyone) -> None:
    north = everyone.sites[0]
    everyone.begin("site-in-training")
    everyone.coordinator.wait_for_round(1, "site-in-training")
    wait_until(lambda: is_working(north), "north trains")
    before = shards(north)
    north.kill()
    north.start()
    everyone.check("site-in-training")
    assert shards(north) == before, "it has its features still"
    left_out = [
        e for e in everyone.coordinator.events("site-in-training", "round") if "north" in e["refused"]
    ]
    assert left_out
    assert "is no longer connected" in left_out[0]["refused"]["north"]


def test_a_site_killed_between_rounds(everyone: Everyone) -> None:
    north = everyone.sites[0]
    everyone.begin("site-between-rounds")
    everyone.coordinator.wait_for_round(1, "site-between-rounds")
    wait_until(lambda: not is_working(north), "north is idle")
    north.kill()
    north.start()
    everyone.check("site-between-rounds")


def test_the_coordinator_killed_in_a_round(everyone: Everyone) -> None:
    coordinator = everyone.coordinator
    everyone.begin("coordinator")
    coordinator.wait_for_round(1, "coordinator")
    wait_until(lambda: is_working(everyone.sites[0]), "a round is going on")
    coordinator.kill()
    coordinator.start()
    everyone.check("coordinator")
    assert [e["resumed_after"] for e in coordinator.events("coordinator", "start")] == [None, 1]
    assert all(site.process and site.process.poll() is None for site in everyone.sites), (
        "sites came back by themselves"
    )


def test_both_killed_at_once(everyone: Everyone) -> None:
    coordinator, south = everyone.coordinator, everyone.sites[1]
    everyone.begin("both")
    coordinator.wait_for_round(2, "both")
    wait_until(lambda: is_working(south), "a round is going on")
    coordinator.kill()
    south.kill()
    coordinator.start()
    south.start()
    everyone.check("both")
    assert coordinator.events("both", "start")[-1]["resumed_after"] >= 2


def test_superlink_alone_killed(everyone: Everyone) -> None:
    """The supervisor starts it again, and submits the run again."""
    coordinator = everyone.coordinator
    everyone.begin("superlink")
    coordinator.wait_for_round(1, "superlink")
    listing = subprocess.run(["ps", "-eww", "-o", "pid,args"], capture_output=True, text=True).stdout
    [pid] = [int(line.split()[0]) for line in listing.splitlines()
             if "deployment.gate " in line and str(coordinator.folder) in line]  # fmt: skip
    os.kill(pid, 9)
    everyone.check("superlink")
    assert "SuperLink ended" in coordinator.log()
