"""A deployed site with ready-made features: what it takes part in, and what it refuses."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from feature_files import vectors, write
from flwr.app import Message
from pictures import class_folders

from fedtransfer.client.app import app
from fedtransfer.client.deployment.founding import found_site
from fedtransfer.client.deployment.preflight import check_site
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.sources import read_source, write_manifest
from fedtransfer.common.errors import SiteError
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.protocol import Description, Query
from fedtransfer.simulations.engines.inprocess import InProcessGrid, SimulatedSite

HERE = "uni2-h-features-4@1.0"
HASH = "ab" * 32


def found(tmp_path: Path, data: Path) -> SiteFolder:
    return found_site(tmp_path / "site", "anna", "localhost:9443", None, data)


def answer(site: SiteFolder, run: RunConfig, query: Query | None = None) -> Description:
    """Return the site's answer to a query. Raises SiteError: it refuses."""
    backbone = configured_backbone(run) if query is None else None
    query = query or Query(backbone.name, backbone.resolution, backbone.fingerprint)  # type: ignore[union-attr]
    grid = InProcessGrid(app, [SimulatedSite("anna", {"site": str(site.folder)})], run.to_flat(), 1)
    while True:
        [reply] = grid.send_and_receive([Message(wire.pack(query), 1, protocol.QUERY)])
        told = wire.unpack(reply.content, Description, protocol.Preparing)
        if isinstance(told, Description):
            grid.close()
            return told


@pytest.mark.parametrize("kind", ["npz", "csv"])
def test_it_takes_part_in_a_run_on_its_features(tmp_path: Path, kind: str) -> None:
    site = found(tmp_path, write(tmp_path / f"f.{kind}", vectors(12)))
    assert sum(map(sum, answer(site, RunConfig(backbone=HERE)).images.values())) == 12


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ("conch-features-4@1.0", "of uni2-h, width 4, version 1.0; the run expects those of conch, width 4"),
        ("uni2-h-features-8@1.0", "the run expects those of uni2-h, width 8, version 1.0"),
        (f"uni2-h-features-4@{HASH}", f"the run expects those of uni2-h, width 4, sha256 {HASH}"),
        ("resnet18v2-tinyimagenet", "the run expects those of resnet18v2-tinyimagenet, width 256, sha256 "),
    ],
)
def test_features_of_another_network_are_refused_with_both_values(
    tmp_path: Path, backbone: str, words: str
) -> None:
    site = found(tmp_path, write(tmp_path / "f.parquet", vectors(12)))
    with pytest.raises(SiteError, match=words) as refusal:
        answer(site, RunConfig(backbone=backbone))
    assert refusal.value.code == "backbone-differs"
    assert "this site has ready-made features of uni2-h, width 4, version 1.0" in refusal.value.text
    assert str(tmp_path) not in refusal.value.text


def test_data_that_do_not_say_what_made_them_are_refused(tmp_path: Path) -> None:
    site = found(tmp_path, class_folders(tmp_path / "images", 0, n=2))
    with pytest.raises(SiteError, match="If some sites have images, the run must name the network"):
        answer(site, RunConfig(backbone=HERE))


def test_rows_that_a_manifest_lists_are_features_too(tmp_path: Path) -> None:
    write_manifest(tmp_path / "images.csv", read_source(write(tmp_path / "f.h5", vectors(12))).images[:7])
    site = found(tmp_path, tmp_path / "images.csv")
    assert sum(map(sum, answer(site, RunConfig(backbone=HERE)).images.values())) == 7
    with pytest.raises(SiteError, match="the run expects those of conch"):
        answer(site, RunConfig(backbone="conch-features-4@1.0"))


def test_the_network_need_not_be_at_a_site_that_has_its_features(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The coordinator and other sites have it; here its hash is what they compare."""
    site = found(tmp_path, write(tmp_path / "f.h5", vectors(12), {"name": "net", "width": 4, "sha256": HASH}))
    network = str(tmp_path / "net.keras")
    query = Query("net", 64, HASH)
    run = RunConfig(backbone=network, standardise="federated")
    assert sum(map(sum, answer(site, run, query).images.values())) == 12
    with pytest.raises(SiteError, match="the server has fingerprint cccc"):
        answer(site, run, Query("net", 64, "c" * 64))
    with caplog.at_level(logging.ERROR), pytest.raises(SiteError, match="the site's own log says why"):
        answer(site, RunConfig(backbone=network), query)
    assert "is not on this machine, and --standardise centre subtracts the public mean" in caplog.text


def test_features_of_images_at_another_resolution_are_refused(tmp_path: Path) -> None:
    card = {"name": "net", "width": 4, "sha256": HASH, "resolution": 96}
    site = found(tmp_path, write(tmp_path / "f.h5", vectors(12), card))
    run = RunConfig(backbone=str(tmp_path / "net.keras"), standardise="none")
    answer(site, run, Query("net", 96, HASH))
    with pytest.raises(SiteError, match="features of images at 96 px; the run expects 64 px"):
        answer(site, run, Query("net", 64, HASH))


def findings(site: SiteFolder) -> dict[str, tuple[str, str]]:
    """Return what the check finds until it needs a coordinator."""
    result = {}
    for subject, level, text in check_site(site):
        result[subject] = (level, text)
        if subject == "backbone":
            return result
    raise AssertionError("no backbone")


def test_the_check_names_the_backbone_and_the_bad_rows(tmp_path: Path) -> None:
    x = vectors(30)
    x[4, 1] = float("nan")
    path = write(tmp_path / "f.csv", x)
    told = findings(found(tmp_path, path))
    assert told["backbone"] == (
        "ok",
        "ready-made features of uni2-h, width 4, version 1.0; a run names their network, or "
        f"--backbone {HERE}",
    )
    level, text = told["images"]
    assert level == "warning"
    assert f"{path}#id=slide/4.svs: features that are NaN or infinite" in text


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-300]), "damaged, or cut short"),
        (lambda path: path.unlink(), "no such file"),
        (lambda path: write(path, vectors(12), id=["x"] * 12), "the id 'x' is there twice"),
    ],
)
def test_a_bad_file_is_an_error_of_the_check(
    tmp_path: Path, spoil: Callable[[Path], Any], words: str
) -> None:
    path = write(tmp_path / "f.h5", vectors(12))
    site = found(tmp_path, path)
    spoil(path)
    level, text = findings(site)["images"]
    assert level == "error"
    assert words in text
    with pytest.raises(SiteError) as refusal:
        answer(site, RunConfig(backbone=HERE))
    assert refusal.value.code == "unusable"
    assert str(tmp_path) not in refusal.value.text
