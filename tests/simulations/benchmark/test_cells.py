"""One run of a plan, as a process makes it."""

import csv
from pathlib import Path

import numpy as np
import pytest
from pictures import COLOURS, picture

from fedtransfer.common.config.config import RunConfig
from fedtransfer.simulations.benchmark.cells import extract_features, run_cell
from fedtransfer.simulations.benchmark.plans import Cell

pytestmark = pytest.mark.run


def test_bytes_are_those_of_a_site_where_the_data_say_how_many_sites_there_are(tmp_path: Path) -> None:
    """A plan of a natural partition need not say how many sites it has."""
    for s, site in enumerate(("north", "south")):
        for c, (label, colour) in enumerate(COLOURS.items()):
            (tmp_path / "data" / site / label).mkdir(parents=True)
            for i in range(12):
                picture(colour, 1000 * s + 100 * c + i).save(tmp_path / "data" / site / label / f"{i}.png")
    config = RunConfig(
        data=str(tmp_path / "data"), partition="natural", rounds=3, baselines=False, models=False,
        out=str(tmp_path / "run"),
    )  # fmt: skip
    row = run_cell(Cell("clinics", "fedavg", 0, config), {}, {})
    with (tmp_path / "run" / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    for way in ("up", "down"):
        assert row.measures[f"bytes_{way}"] == pytest.approx(
            np.sum([float(r[f"bytes_{way}_per_site"]) for r in history])
        )


def test_what_is_wrong_with_the_images_is_said_before_any_run(tmp_path: Path, folder_of_classes) -> None:
    images = folder_of_classes(8)
    (images / "red" / "broken.png").write_bytes(b"no picture")
    (images / "blue" / "copy.png").write_bytes((images / "red" / "0.png").read_bytes())
    config = RunConfig(data=str(images), store=str(tmp_path / "store"), sites=2, partition="iid")
    usable = 8 * len(COLOURS) + 1
    for stored in (False, True):
        first, *others = extract_features(config).lines
        assert first.startswith(f"{usable} images of {len(COLOURS)} classes (")
        assert first.endswith("stored" if stored else " s")
        assert others[0].startswith(f"left out {images / 'red' / 'broken.png'}: ")
        assert others[1].startswith("1 image under more than one label, all of which are kept: ")
        assert len(others) == 2
