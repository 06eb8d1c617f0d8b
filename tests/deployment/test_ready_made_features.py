"""One deployed federation of a site with images and a site with features of the same network."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from deployment.federation import CoordinatorParty, SiteParty, arrays, start_all, stopping
from feature_files import vectors, write
from pictures import class_folders

from fedtransfer.client.features_export import export_features
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.sources import read_source
from fedtransfer.server.app import make_app
from fedtransfer.simulations.data.sites import write_sites
from fedtransfer.simulations.federation import run_on_engine

SETTINGS = {"rounds": 3, "seed": 2}
IMAGES = {"north": 0, "south": 1}  # site → seed of its images


class World:
    """A coordinator; north has images, south their features, west features of another network."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images = {site: class_folders(root / "images" / site, seed) for site, seed in IMAGES.items()}
        config = RunConfig(store=str(root / "store"), **SETTINGS)
        export_features(self.images["south"], root / "south.parquet", config, splits=True)
        write(root / "west.h5", vectors(30, 256), {"name": "conch", "width": 256, "version": "1.0"})
        data = {"north": self.images["north"], "south": root / "south.parquet", "west": root / "west.h5"}
        self.coordinator = CoordinatorParty(root / "coordinator")
        self.sites = {
            site: SiteParty(root / site, site, self.coordinator, path) for site, path in data.items()
        }

    def simulated(self) -> Path:
        """Run the same on the images of both sites in this process; return the run folder."""
        out = self.root / "in-process"
        config = RunConfig(out=str(out), sites=2, min_sites=2, store=str(self.root / "store"), **SETTINGS)
        images = {site: read_source(folder).images for site, folder in self.images.items()}
        run_on_engine(make_app(), write_sites(out, config, images), config)
        return out


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("ready-made"))
    with stopping(*world.sites.values(), world.coordinator):
        start_all(world.coordinator, *world.sites.values())
        yield world


def test_images_and_features_of_one_network_are_in_one_federation(world: World) -> None:
    options = [word for key, value in SETTINGS.items() for word in (f"--{key}", str(value))]
    folder = world.coordinator.run("--min-sites", "2", *options)
    expected = world.simulated()
    for file in ("head.npz", "last-head.npz"):
        for one, other in zip(arrays(folder / file), arrays(expected / file), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    for site in IMAGES:
        kinds = {entry["kind"] for entry in world.sites[site].sent()}
        assert {"query", "train", "evaluate.finish"} <= kinds

    # West is refused, and the coordinator's people read both sides' values.
    [start] = world.coordinator.events(kind="start")
    assert re.fullmatch(
        "backbone-differs: this site has ready-made features of conch, width 256, version 1.0; the run "
        "expects those of resnet18v2-tinyimagenet, width 256, sha256 [0-9a-f]{64}",
        start["absent"]["west"],
    )
    assert "train" not in {entry["kind"] for entry in world.sites["west"].sent()}

    # South has a result for its features, and for images too.
    lines = world.sites["south"].command("predict", "--csv", str(world.root / "south.parquet")).stdout
    assert lines.splitlines()[0].startswith("id,class,probability,")
    assert len(lines.splitlines()) == 37
    picture = next(world.images["south"].glob("red/*"))
    assert "red" in world.sites["south"].command("predict", "--json", str(picture)).stdout
    assert '"images"' in world.sites["south"].command("evaluate", "--json").stdout
    checked = world.sites["west"].command("check", "--json", check=False).stdout
    assert "ready-made features of conch, width 256, version 1.0" in checked
    assert "--backbone conch-features-256@1.0" in checked
