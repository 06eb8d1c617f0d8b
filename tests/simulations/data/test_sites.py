"""Which folders are sites and which are classes."""

from pathlib import Path

import pytest

from fedtransfer.common.config.config import RunConfig
from fedtransfer.simulations.data.sites import warn_of_site_folders


@pytest.fixture
def clinics(tmp_path: Path) -> Path:
    for site in ("north", "south", "west"):
        for label in ("benign", "malign"):
            (tmp_path / site / label).mkdir(parents=True)
    return tmp_path


def test_folders_that_look_like_sites_are_pointed_out(clinics: Path) -> None:
    [warning] = warn_of_site_folders(RunConfig(data=str(clinics)))
    assert (
        "(north, south, west) are taken for classes, "
        "but all of them have the same folders inside (benign, malign)"
    ) in warning
    assert "give --partition natural" in warning


def test_folders_that_are_classes_or_told_to_be_sites_are_not(clinics: Path) -> None:
    assert not warn_of_site_folders(RunConfig(data=str(clinics), partition="natural"))
    assert not warn_of_site_folders(RunConfig(data=str(clinics / "north")))
    assert not warn_of_site_folders(RunConfig())
    (clinics / "west" / "malign").rmdir()
    assert not warn_of_site_folders(RunConfig(data=str(clinics))), "one of them has none of that name"


def test_folders_of_splits_are_neither(clinics: Path) -> None:
    for site, split in (("north", "train"), ("south", "test"), ("west", "val")):
        (clinics / site).rename(clinics / split)
    assert not warn_of_site_folders(RunConfig(data=str(clinics)))
