"""Features of images are exported with ids, labels, groups and splits."""

from pathlib import Path

import numpy as np
import pytest
from feature_files import KINDS, vectors, write
from pictures import class_folders
from typer.testing import CliRunner

from fedtransfer.cli import app
from fedtransfer.client.features_export import export_features
from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.feature_card import FeatureCard
from fedtransfer.common.data.feature_table import feature_table
from fedtransfer.common.data.images import split_of
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.extraction import extract, open_store


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_the_images_in_order(tmp_path: Path, kind: str) -> None:
    folder = class_folders(tmp_path / "images", 0, n=2)
    (folder / "red" / "bad.png").write_bytes(b"no image")
    config = RunConfig(store=str(tmp_path / "store"))
    card, [problem] = export_features(folder, tmp_path / f"f.{kind}", config)
    network = configured_backbone(config)
    assert card == FeatureCard(network.name, 256, network.identity, 64, 6)
    assert problem.path == str(folder / "red" / "bad.png")
    table = feature_table(str(tmp_path / f"f.{kind}"))
    colours = ("blue", "green", "red")
    assert table.ids == [f"{colour}/{i}.png" for colour in colours for i in range(2)]
    assert table.column("label") == [colour for colour in colours for _ in range(2)]
    assert not table.has("split")
    assert not table.has("group")
    store, images = open_store(network, config.store), read_source(folder).images
    found = extract(store, network, images)
    expected = store.read([key for key in found.keys if key])
    np.testing.assert_array_equal(np.stack([table.vector(name) for name in table.ids]), expected)


def test_splits_are_those_of_a_run(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "images", 0, n=4)
    config = RunConfig(store=str(tmp_path / "store"), seed=5)
    export_features(folder, tmp_path / "f.csv", config, splits=True)
    splits = [
        split_of(image, image.key(), 5, config.test_fraction, config.validation_fraction)
        for image in read_source(folder).images
    ]
    assert [image.split for image in read_source(tmp_path / "f.csv").images] == splits


def test_groups_and_supplied_splits_of_a_manifest_are_written(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "images", 0, n=2)
    lines = ["path,label,split,group", "images/red/0.png,r,train,p1", f"{folder}/red/1.png,r,test,p2"]
    (tmp_path / "images.csv").write_text("\n".join(lines))
    export_features(tmp_path / "images.csv", tmp_path / "f.csv", RunConfig(store=str(tmp_path / "store")))
    first, second = read_source(tmp_path / "f.csv").images
    assert (first.split, first.group, second.split, second.group) == ("development", "p1", "test", "p2")
    assert feature_table(str(tmp_path / "f.csv")).ids == ["images/red/0.png", "images/red/1.png"]


def test_one_image_listed_twice_is_refused(tmp_path: Path) -> None:
    class_folders(tmp_path, 0, n=1)
    (tmp_path / "images.csv").write_text("path,label\nred/0.png,a\nred/0.png,b\n")
    with pytest.raises(UserError, match=r"it lists red/0.png 2 times; a features file has one row an image"):
        export_features(tmp_path / "images.csv", tmp_path / "f.npz", RunConfig(store=str(tmp_path / "store")))
    assert not (tmp_path / "f.npz").exists()


def test_without_a_readable_image(tmp_path: Path) -> None:
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "1.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="none of its images can be read; the first: not an image"):
        export_features(tmp_path / "images", tmp_path / "f.npz", RunConfig(store=str(tmp_path / "store")))


def test_features_are_converted_from_one_kind_to_another(tmp_path: Path) -> None:
    path = write(tmp_path / "f.parquet", vectors(5), group=[*"aabbc"])
    config = RunConfig(backbone="uni2-h-features-4@1.0", store=str(tmp_path / "store"))
    card, _ = export_features(path, tmp_path / "f.h5", config)
    assert card == FeatureCard("uni2-h", 4, "1.0", 0, 5)
    one, other = (feature_table(str(tmp_path / name)) for name in ("f.parquet", "f.h5"))
    assert (one.ids, one.column("group")) == (other.ids, other.column("group"))
    np.testing.assert_array_equal(other.vector("slide/3.svs"), vectors(5)[3])


def test_the_command(tmp_path: Path) -> None:
    folder, out = class_folders(tmp_path / "images", 0, n=1), tmp_path / "f.npz"
    words = ["features", "export", str(folder), "--out", str(out), "--store", str(tmp_path / "store")]
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 0, answer.exception
    assert answer.stdout.startswith(f"{out}: 3 rows, features of resnet18v2-tinyimagenet, width 256, sha256 ")
    again = CliRunner().invoke(app, words)
    assert "already exists; choose another name" in str(again.exception)
    wrong = CliRunner().invoke(app, [*words[:4], str(tmp_path / "f.txt")])
    assert "expected a file name that ends in .npz" in str(wrong.exception)
