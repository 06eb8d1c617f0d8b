"""Whole runs on ready-made features: the heads are as on images; and all that follows a run."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feature_files import CARD, vectors, write
from pictures import class_folders
from typer.testing import CliRunner

from fedtransfer.cli import app
from fedtransfer.client.features_export import export_features
from fedtransfer.common.backbone.backbone import Backbone, configured_backbone
from fedtransfer.common.config.config import RunConfig, make_config
from fedtransfer.common.data.feature_table import feature_table
from fedtransfer.common.data.sources import read_source, write_manifest
from fedtransfer.common.errors import UserError
from fedtransfer.simulations.data.sites import load
from fedtransfer.simulations.display import QuietDisplay
from fedtransfer.simulations.federation import Result, simulate

SITES = [f"hospital-{i // 30}" for i in range(90)]


def command(*words: object) -> str:
    """Run the command line within this process; return standard output."""
    result = CliRunner().invoke(app, [*map(str, words)])
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == 0, (result.stderr, result.exception)
    return result.stdout


def run(out: Path, data: Path, **settings: Any) -> Result:
    options = {"rounds": 2, "partition": "natural", "baselines": False, **settings}
    flat = {key.replace("_", "-"): value for key, value in options.items()}
    config = make_config({"data": str(data), "out": str(out), "store": f"{out}-store", **flat}, "test")
    return simulate(config, QuietDisplay())


def head(folder: Path) -> list[np.ndarray]:
    with np.load(folder / "head.npz") as file:
        return [file[f"array_{i}"] for i in range(2)]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("features") / "f.parquet", vectors(90), site=SITES)


@pytest.fixture(scope="module")
def finished(table: Path) -> Path:
    """A run on features of a network that is not here."""
    return run(table.parent / "run", table, rounds=15, models=True, personal_epochs=1).folder


@pytest.mark.run
@pytest.mark.parametrize(
    "kind", ["parquet", *(pytest.param(kind, marks=pytest.mark.full) for kind in ("npz", "h5", "csv"))]
)
def test_exported_features_give_the_same_head_as_their_images(tmp_path: Path, kind: str) -> None:
    """To the last bit, in one federation of sites with images and sites with features too."""
    config = RunConfig(store=str(tmp_path / "store"), seed=3)
    for number, site in enumerate(("north", "south")):
        folder = class_folders(tmp_path / "images" / site, number)
        (tmp_path / "features").mkdir(exist_ok=True)
        (tmp_path / "mixed").mkdir(exist_ok=True)
        card, _ = export_features(folder, tmp_path / "features" / f"{site}.{kind}", config, splits=True)
        assert (card.rows, card.sha256) == (36, configured_backbone(config).identity)
    features = tmp_path / "features"
    (tmp_path / "mixed" / f"north.{kind}").symlink_to(features / f"north.{kind}")
    write_manifest(tmp_path / "mixed" / "south.csv", read_source(tmp_path / "images" / "south").images)
    expected = run(tmp_path / "run", tmp_path / "images", seed=3)
    for data in ("features", "mixed"):
        result = run(tmp_path / f"run-{data}", tmp_path / data, seed=3)
        assert result.summary["backbone"] == expected.summary["backbone"]
        for one, other in zip(head(result.folder), head(expected.folder), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.run
def test_a_run_takes_its_backbone_and_its_sites_from_the_file(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["backbone"]["name"] == "uni2-h-features-4@1.0"
    assert [*summary["site_accuracy"]] == ["hospital-0", "hospital-1", "hospital-2"]
    assert summary["accuracy"] > 0.9
    assert "personal" in summary
    listed = list(csv.DictReader((finished / "sites" / "hospital-1" / "images.csv").open()))
    assert [row["path"].partition("#id=")[2] for row in listed] == [f"slide/{i}.svs" for i in range(30, 60)]


@pytest.mark.run
@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": "fed3r"}, {"masks": True}, {"strategy": "scaffold", "standardise": "federated"},
        {"dp": "image", "epsilon": 20.0, "weighting": "uniform"},
        {"dp": "site", "noise_multiplier": 1.0, "weighting": "uniform"},
        {"unseen_sites": 1},
    ],
    ids=lambda settings: "-".join(settings),
)  # fmt: skip
def test_methods_masks_and_privacy_work_on_features(
    tmp_path: Path, table: Path, settings: dict[str, Any]
) -> None:
    result = run(tmp_path / "run", table, **settings)
    assert result.problems == ()
    assert np.isfinite(head(result.folder)[0]).all()


@pytest.mark.run
def test_predictions_name_the_ids(finished: Path, table: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(command("predict", finished, table, "--csv"))))
    assert [row["id"] for row in rows] == feature_table(str(table)).ids
    truth = feature_table(str(table)).column("label")
    assert np.mean([row["class"] == label for row, label in zip(rows, truth, strict=True)]) > 0.9
    line = command("predict", finished / "model.keras", table, "--json").splitlines()[7]
    assert {key: json.loads(line)[key] for key in ("path", "id")} == {"path": str(table), "id": "slide/7.svs"}
    assert " slide/8.svs " in command("predict", finished, table)


@pytest.mark.run
def test_features_without_labels_are_classified_and_others_refused(finished: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "new.h5", vectors(6), label=None)
    assert len(command("predict", finished, path, "--csv").splitlines()) == 7
    path = write(tmp_path / "other.h5", vectors(6), CARD | {"name": "conch"})
    for model in (finished, finished / "model.keras"):
        with pytest.raises(UserError, match=r"of conch, width 4, version 1.0; the run expects those of uni"):
            command("predict", model, path)
    with pytest.raises(UserError, match="features of conch"):
        command("evaluate", finished, path, "--split", "all")


@pytest.mark.run
def test_scores_of_a_features_file(finished: Path, table: Path) -> None:
    scores = json.loads(command("evaluate", finished, table, "--json"))
    summary = json.loads((finished / "summary.json").read_text())
    assert scores["split"] == "test"
    assert scores["images"] == summary["images_by_split"]["test"]
    assert scores["accuracy"] == pytest.approx(summary["accuracy"])


@pytest.mark.run
def test_a_model_of_images_takes_features_of_its_backbone(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "images", 0)
    made = run(tmp_path / "run", folder, partition="iid", sites=2, min_images=2).folder
    config = RunConfig(store=str(tmp_path / "run-store"))
    export_features(folder, tmp_path / "f.npz", config)
    lines = {
        data: list(csv.reader(io.StringIO(command("predict", made, data, "--csv"))))[1:]
        for data in (folder, tmp_path / "f.npz")
    }
    of_images, of_features = lines.values()
    assert {Path(path).relative_to(folder).as_posix(): rest for path, *rest in of_images} == {
        path: rest for path, *rest in of_features
    }


@pytest.mark.run
def test_the_report_and_the_audit_say_that_there_are_no_images(finished: Path) -> None:
    command("report", finished)
    page = (finished / "report.html").read_text()
    assert "Ready-made features of width 4 (uni2-h)." in page
    assert "as the column site says" in page
    assert " 0 px" not in page
    command("audit", finished, "--shadows", "64", "--out", finished / "audit")
    with (finished / "audit" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    [rebuilt] = [row for row in rows if row["measure"] == "psnr"]
    assert rebuilt["note"] == "no image can be rebuilt: the sites hold ready-made features, and no images"
    page = (finished / "audit" / "report.html").read_text()
    assert "Ready-made features of width 4 (uni2-h)." in page
    assert " 0 px" not in page


@pytest.mark.run
def test_an_audit_of_features_of_the_bundled_network_rebuilds_no_image(tmp_path: Path) -> None:
    identity = configured_backbone(RunConfig()).identity
    card = {"name": "resnet18v2-tinyimagenet", "width": 256, "sha256": identity, "resolution": 64}
    path = write(tmp_path / "f.npz", vectors(90, 256), card, site=SITES)
    folder = run(tmp_path / "run", path).folder
    assert json.loads((folder / "summary.json").read_text())["backbone"]["resolution"] == 64
    command("audit", folder, "--shadows", "64", "--out", tmp_path / "audit")
    assert "no image can be rebuilt" in (tmp_path / "audit" / "table.csv").read_text()


def loaded(data: Path, **settings: Any) -> RunConfig:
    flat = {key.replace("_", "-"): value for key, value in settings.items()}
    return load(make_config({"data": str(data), **flat}, "test")).config


def test_the_backbone_follows_from_the_file(tmp_path: Path, table: Path) -> None:
    assert loaded(table, sites=3).backbone == "uni2-h-features-4@1.0"
    assert loaded(table, sites=3, backbone="features-4").backbone == "features-4"
    network: Backbone = configured_backbone(RunConfig(resolution=96))
    card = {"name": "ours", "width": 256, "sha256": network.identity, "resolution": 96}
    bundled = loaded(write(tmp_path / "f.npz", vectors(60, 256), card), sites=3)
    assert (bundled.backbone, bundled.resolution) == ("resnet18v2-tinyimagenet", 96)
    padded = configured_backbone(RunConfig(fit="pad"))
    other = write(tmp_path / "g.npz", vectors(60, 256), card | {"sha256": padded.identity})
    assert loaded(other, sites=3).backbone == f"ours-features-256@{padded.identity}"


@pytest.mark.parametrize("change", [{"name": "conch"}, {"width": 5}, {"version": "2"}, {"sha256": "0" * 64}])
def test_sites_with_features_of_different_networks(tmp_path: Path, change: dict[str, Any]) -> None:
    write(tmp_path / "a.csv", vectors(30))
    write(tmp_path / "b.h5", vectors(30, change.get("width", 4)), CARD | change)
    with pytest.raises(UserError, match="its features are of different networks") as refusal:
        loaded(tmp_path, partition="natural")
    assert "uni2-h, width 4, version 1.0" in str(refusal.value)
    assert str(next(iter(change.values()))) in str(refusal.value)


def test_a_named_version_needs_data_that_say_theirs(tmp_path: Path) -> None:
    class_folders(tmp_path / "images", 0)
    with pytest.raises(
        UserError, match="names the version of what made ready-made features, which these data"
    ):
        loaded(tmp_path / "images", sites=2, backbone="uni2-h-features-4@1.0")


@pytest.mark.parametrize(
    ("site", "words"),
    [
        (None, "has no column site; expected the site of each row"),
        (["x"] * 30, "has one site only, 'x'; expected at least two"),
        (["x", "../y"] * 15, r"got site '../y'; expected a name without slashes"),
        (["x", ""] * 15, "got site ''; expected a name"),
        (["x", ".y"] * 15, "got site '.y'; expected a name"),
    ],
)
def test_the_column_site(tmp_path: Path, site: list[str] | None, words: str) -> None:
    with pytest.raises(UserError, match=words):
        loaded(write(tmp_path / "f.npz", vectors(30), site=site), partition="natural")
