"""Data in memory are written once, and read back image for image."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedtransfer.common.data.images import Image, decode
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.errors import UserError
from fedtransfer.simulations.data.archive import archive_data, archive_parts, embed_images
from fedtransfer.simulations.data.datasets import read_sites
from fedtransfer.simulations.data.examples import Examples

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
LABELS = ["9", "10", "9", "10", "9", "10"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fedtransfer" / "datasets"


def test_arrays_come_back_as_they_are(cache: Path) -> None:
    archive = archive_data((IMAGES, LABELS))
    assert (archive.natural, archive.width) == (False, 0)
    source = read_source(archive.path)
    assert source.classes == ("9", "10")
    assert [image.label for image in source.images] == LABELS
    np.testing.assert_array_equal([image.read() for image in source.images], IMAGES)
    modified = archive.path.stat().st_mtime_ns
    assert archive_data((IMAGES / 255, LABELS)) == archive, "the same images"
    assert archive.path.stat().st_mtime_ns == modified
    assert archive_data((IMAGES, LABELS[::-1])).path != archive.path
    assert len(list(cache.iterdir())) == 2


def test_sites_are_a_file_each() -> None:
    archive = archive_data({"north": (IMAGES[:4], LABELS[:4]), "klinik süd": (IMAGES[4:], LABELS[4:])})
    assert archive.natural
    sites, problems = read_sites(archive.path)
    assert {name: len(source.images) for name, source in sites.items()} == {"klinik süd": 2, "north": 4}
    assert problems == ()


def test_images_of_several_sizes_are_a_file_each() -> None:
    values = [IMAGES[0], IMAGES[1][:3], IMAGES[2][:, :, :1]]
    source = read_source(archive_data((values, LABELS[:3])).path)
    for image, value in zip(source.images, values, strict=True):
        np.testing.assert_array_equal(decode(image.read()), decode(value))


def test_splits_and_groups_stay_with_the_features_of_a_backbone_object() -> None:
    images = tuple(
        Image("", label, split, "g1") for label, split in zip(LABELS, ["test", "train"] * 3, strict=True)
    )
    archive = archive_parts({"data": Examples(images, list(IMAGES))}, False, lambda batch: batch.mean((1, 2)))
    assert archive.width == 3
    source = read_source(archive.path)
    assert [replace(image, path="") for image in source.images] == list(images)
    np.testing.assert_allclose([image.read() for image in source.images], IMAGES.mean((1, 2)), rtol=1e-6)


def test_a_backbone_object_sees_batches_of_one_shape() -> None:
    shapes = []

    def embed(batch: np.ndarray) -> np.ndarray:
        shapes.append(batch.shape)
        return np.ones((len(batch), 2))

    assert len(embed_images(embed, [IMAGES[0], IMAGES[1], IMAGES[2][:3], *[IMAGES[3]] * 70])) == 73
    assert shapes == [(2, 5, 4, 3), (1, 3, 4, 3), (64, 5, 4, 3), (6, 5, 4, 3)]


@pytest.mark.parametrize("features", [np.ones(3), np.ones((2, 3)), np.full((6, 2), np.nan)])
def test_features_that_are_none_are_refused(features: np.ndarray) -> None:
    with pytest.raises(
        UserError, match=r"backbone: returned .* for 6 images; expected finite numbers of shape \(6, d\)"
    ):
        archive_data((IMAGES, LABELS), lambda batch: features)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a\\b"])
def test_names_of_sites_are_names_of_files(name: str) -> None:
    with pytest.raises(UserError, match="expected a name without slashes"):
        archive_data({name: (IMAGES, LABELS)})


def test_one_site_is_no_federation() -> None:
    with pytest.raises(UserError, match="a dict of 1 sites; expected at least two"):
        archive_data({"north": (IMAGES, LABELS)})


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="image 0 cannot be read: not an image"):
        archive_data([(tmp_path / "one.png", "cat")], lambda batch: batch)
