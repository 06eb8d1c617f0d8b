"""Secure aggregation of real processes: plain totals, whoever drops out, and whoever is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployment.federation import CoordinatorParty, SiteParty, arrays, start_all, stopping
from pictures import class_folders
from waiting import patient, wait_until

from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.client.deployment.worker import worker_status
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.support.keys import fingerprint, read_roster, roster_text
from fedtransfer.server.app import make_app
from fedtransfer.simulations.data.sites import write_sites
from fedtransfer.simulations.federation import run_on_engine

pytestmark = pytest.mark.full

SITES = ("anna", "bert", "carl", "dora")
CLASSES = {"classes": "declared", "class_names": "red,green,blue"}
LONG = 20_000  # epochs enough that training takes seconds, so that a site can be killed in the middle of it


class World:
    """A running coordinator and its four running sites."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images = {
            site: class_folders(root / "images" / site, number) for number, site in enumerate(SITES)
        }
        self.coordinator = CoordinatorParty(root / "coordinator")
        self.sites = {
            site: SiteParty(root / site, site, self.coordinator, self.images[site]) for site in SITES
        }
        self._settings = {name: (site.folder / "site.toml").read_text() for name, site in self.sites.items()}

    def plain(self, name: str, sites: tuple[str, ...] = SITES, **settings: Any) -> Path:
        """Run the same in this process with these sites, without masks; return the run folder."""
        out = self.root / f"{name}-plain"
        config = RunConfig(out=str(out), sites=len(sites), min_sites=3, **CLASSES, **settings)
        run_on_engine(make_app(), write_sites(out, config, self._sources(sites)), config)
        return out

    def _sources(self, sites: tuple[str, ...]) -> dict[str, Any]:
        return {site: read_source(self.images[site]).images for site in sites}

    def begin(self, name: str, *, masks: bool = True, **settings: Any) -> None:
        options = ["--min-sites", "3", *(["--masks"] if masks else [])]
        for key, value in {**CLASSES, **settings}.items():
            options += [f"--{key.replace('_', '-')}", str(value)]
        self.coordinator.command("run", "--detach", "--name", name, *options)

    def exchanges(self) -> dict[str, int]:
        return {name: len(site.sent()) for name, site in self.sites.items()}

    def wish(self, name: str, old: str, new: str) -> None:
        self.sites[name].settings(old, new)

    def forget_wishes(self) -> None:
        for name, site in self.sites.items():
            (site.folder / "site.toml").write_text(self._settings[name])

    def refusals(self, name: str) -> list[tuple[str, str]]:
        """Site and reason, of all rounds of a run."""
        return [pair for event in self.coordinator.events(name, "round") for pair in event["refused"].items()]

    def worker_log(self, name: str) -> str:
        return (self.sites[name].folder / "state" / "worker.log").read_text("utf-8", "replace")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("masks"))
    with stopping(*world.sites.values(), world.coordinator):
        start_all(world.coordinator, *world.sites.values())
        yield world
        for site in world.sites.values():  # all at once
            assert site.process
            site.process.terminate()


@pytest.fixture
def world(running: World) -> Iterator[World]:
    yield running
    running.forget_wishes()


def assert_same_heads(got: Path, expected: Path) -> None:
    for file in ("head.npz", "last-head.npz"):
        for one, other in zip(arrays(got / file), arrays(expected / file), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5, err_msg=str(got / file))


def is_training(site: SiteParty) -> bool:
    """Whether it has shared masks with the others, and is at work on the next message."""
    told = worker_status(SiteFolder.open(site.folder))
    return bool(told and told["last"] and told["last"]["kind"] == "query.peers" and told["doing_since"])


@pytest.mark.parametrize(
    ("strategy", "settings"),
    [("fedavg", {"rounds": 1, "learning_rate": 0.5}), ("fed3r", {"ridge": 0.1})],
)
def test_heads_are_those_of_the_plain_run(world: World, strategy: str, settings: dict[str, Any]) -> None:
    expected = world.plain(strategy, strategy=strategy, **settings)
    before = world.exchanges()
    world.begin(strategy, strategy=strategy, **settings)
    folder = world.coordinator.wait_for_end(strategy)
    assert_same_heads(folder, expected)
    told, plain = (json.loads((place / "summary.json").read_text()) for place in (folder, expected))
    for key in ("accuracy", "best_round"):
        assert told[key] == plain[key], key
    assert world.refusals(strategy) == []
    for name, site in world.sites.items():
        entries = site.sent()[before[name] :]
        inside = [shape for entry in entries for shape in entry["shapes"] if shape[0] not in ("|u1", "<u8")]
        assert entries
        assert inside == [], "all numbers that leave are masked, or shares sealed for others"


def test_a_site_killed_in_a_masked_round(world: World) -> None:
    """Others have masks in common with it already; the total is of those who stay, and says so."""
    # Its head awaits dora.
    settings = {"rounds": 1, "local_epochs": LONG, "learning_rate": 0.5, "join_timeout": patient(6)}
    expected = world.plain("killed", SITES[:3], **settings)
    dora = world.sites["dora"]
    world.begin("killed", **settings)
    wait_until(lambda: is_training(dora), "dora trains")
    dora.kill()
    try:
        folder = world.coordinator.wait_for_end("killed")
    finally:
        dora.start()
    assert_same_heads(folder, expected)
    for event in world.coordinator.rounds("killed"):
        assert event["present"] == ["anna", "bert", "carl"]
        assert "is no longer connected" in event["refused"]["dora"]


def test_a_coordinator_that_invents_a_site(world: World) -> None:
    """Dora is enrolled, but anna has not heard of her, and shares no masks with her; others do."""
    told = world.coordinator.command("roster").stdout
    anna = world.sites["anna"].folder
    (anna / "roster.toml").write_text(told)
    known = read_roster(anna / "roster.toml").sites
    assert sorted(known) == sorted(SITES)
    assert f"{known['bert']}  bert" in world.sites["anna"].command("roster", str(anna / "roster.toml")).stdout
    (anna / "roster.toml").write_text(
        roster_text({name: key for name, key in known.items() if name != "dora"})
    )
    world.wish("anna", 'roster = ""', 'roster = "roster.toml"')
    expected = world.plain("invented", SITES[1:], rounds=1)
    world.begin("invented", rounds=1)
    folder = world.coordinator.wait_for_end("invented")
    assert_same_heads(folder, expected)
    [event] = world.coordinator.rounds("invented")
    assert event["present"] == ["bert", "carl", "dora"]
    key = fingerprint((world.sites["dora"].folder / "site.pub").read_text())
    assert event["refused"]["anna"].startswith(
        f"not-on-roster: 'dora', to which the coordinator gives key {key}, is not on this site's roster"
    )
    assert "no roster: in runs with masks this site trusts the coordinator" in world.worker_log("bert")


def test_a_site_that_demands_masks(world: World) -> None:
    world.wish("anna", "demand = []", 'demand = ["masks"]')
    world.begin("unmasked", masks=False, strategy="fedncm")
    world.coordinator.wait_for_end("unmasked")
    [start] = world.coordinator.events("unmasked", "start")
    assert start["sites"] == ["bert", "carl", "dora"]
    assert start["absent"] == {
        "anna": "demand-not-met: this site demands masks, and the run has none; give --masks"
    }
    checked = world.sites["anna"].command("check", "--quick").stdout
    assert "; demands masks" in checked
    assert [line for line in checked.splitlines() if line.startswith("warning roster")]
