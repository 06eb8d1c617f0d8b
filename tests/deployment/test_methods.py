"""Methods that send more than heads and updates, or keep state at sites, with real processes.

The heads are those of a run in one process.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployment.federation import CoordinatorParty, SiteParty, arrays, start_all, stopping
from pictures import class_folders

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.sources import read_source
from fedtransfer.server.app import make_app
from fedtransfer.simulations.data.sites import write_sites
from fedtransfer.simulations.federation import run_on_engine

pytestmark = pytest.mark.full

SITES = ("north", "south")


class World:
    """A running coordinator and its two running sites."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images = {
            site: class_folders(root / "images" / site, number) for number, site in enumerate(SITES)
        }
        self.coordinator = CoordinatorParty(root / "coordinator")
        self.sites = {
            site: SiteParty(root / site, site, self.coordinator, self.images[site]) for site in SITES
        }

    def simulated(self, name: str, settings: dict[str, Any]) -> Path:
        """Run the same in this process; return the run folder."""
        out = self.root / f"{name}-in-process"
        config = RunConfig(out=str(out), sites=len(SITES), min_sites=len(SITES), **settings)
        manifests = write_sites(out, config, {site: read_source(self.images[site]).images for site in SITES})
        run_on_engine(make_app(), manifests, config)
        return out

    def begin(self, name: str, settings: dict[str, Any]) -> None:
        options = ["--min-sites", str(len(SITES))]
        for key, value in settings.items():
            option = f"--{key.replace('_', '-')}"
            options += [option] if value is True else [option, str(value)]
        self.coordinator.command("run", "--detach", "--name", name, *options)

    def kept(self, site: str, name: str) -> Path:
        """Return the folder of a run's result at a site."""
        [folder] = [
            path.parent
            for path in (self.sites[site].folder / "results").glob("*/config.toml")
            if f'out = "{self.coordinator.folder / "runs" / name}"' in path.read_text("utf-8")
        ]
        return folder

    def check(self, name: str, expected: Path) -> dict[str, Any]:
        """Wait for the end, and compare all heads; return what the summary says."""
        folder = self.coordinator.wait_for_end(name)
        for file in ("head.npz", "last-head.npz"):
            assert_same(folder / file, expected / file)
        for site in SITES:
            for path in (expected / "sites" / site).glob("*.npz"):
                assert_same(self.kept(site, name) / path.name, path)
        told, other = (json.loads((place / "summary.json").read_text()) for place in (folder, expected))
        for key in ("accuracy", "best_round", "personal", "one_shot"):
            assert told.get(key) == other.get(key), key
        return dict(told)


def assert_same(got: Path, expected: Path) -> None:
    for one, other in zip(arrays(got), arrays(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7, err_msg=str(got))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("methods"))
    with stopping(*world.sites.values(), world.coordinator):
        start_all(world.coordinator, *world.sites.values())
        yield world


def test_a_site_with_state_is_killed_and_goes_on_from_it(world: World) -> None:
    """SCAFFOLD's variates are at the sites; then heads of the sites' own."""
    settings = {"strategy": "scaffold", "rounds": 4, "personal_epochs": 2}
    north = world.sites["north"]
    expected = world.simulated("scaffold", settings)
    before = {name: len(site.sent()) for name, site in world.sites.items()}
    world.begin("scaffold", settings)
    world.coordinator.wait_for_round(2, "scaffold")
    north.kill()
    north.start()
    told = world.check("scaffold", expected)
    assert told["personal"]["sites"] == 2
    assert "north" in {
        site for event in world.coordinator.events("scaffold", "round") for site in event["refused"]
    }
    for name, site in world.sites.items():
        entries = site.sent()[before[name] :]
        assert {entry["kind"] for entry in entries} >= {
            "query", "train", "evaluate", "evaluate.finish", "evaluate.personal",
        }  # fmt: skip
        assert {entry["method"] for entry in entries} == {"scaffold"}
        assert all(entry["round"] is not None for entry in entries if entry["kind"] != "query")

    own = json.loads(north.command("evaluate", "--personal", "--json").stdout)
    shared = json.loads(north.command("evaluate", "--json").stdout)
    assert own["images"] == shared["images"] > 0
    assert own["loss"] != shared["loss"]
    [line] = north.command(
        "predict", "--personal", "--json", str(next(world.images["north"].glob("red/*")))
    ).stdout.splitlines()
    assert set(json.loads(line)["probabilities"]) == {"red", "green", "blue"}


def test_a_run_that_begins_with_sums(world: World) -> None:
    settings = {"init": "fed3r", "standardise": "federated", "rounds": 2, "learning_rate": 1.0}
    expected = world.simulated("sums", settings)
    before = {name: len(site.sent()) for name, site in world.sites.items()}
    world.begin("sums", settings)
    told = world.check("sums", expected)
    assert told["one_shot"]["head"] == "fed3r"
    for name, site in world.sites.items():
        entries = [entry for entry in site.sent()[before[name] :] if entry["kind"] != "query"]
        assert [(entry["kind"], entry["round"]) for entry in entries] == [
            ("train.gather", 0), ("train.gather", 0), ("evaluate.trial", 0), ("train", 1), ("train", 2),
            ("evaluate", 3), ("evaluate.finish", told["best_round"]),
        ]  # fmt: skip
        assert {entry["method"] for entry in entries} == {"fed3r, fedavg"}
        site.command("evaluate")
