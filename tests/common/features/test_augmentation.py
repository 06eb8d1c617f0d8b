"""Augmented views: what they are, and that only training images get them, once."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import picture
from PIL import Image as Pillow
from small_network import shared_backbone

from fedtransfer.common.backbone.backbone import load_backbone
from fedtransfer.common.config.config import BUNDLED, RunConfig
from fedtransfer.common.data.images import Image, content_key, decode, split_of
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.features.augmentation import training_views, view, view_key
from fedtransfer.common.features.extraction import extract, open_store

KEY = b"k" * 32


def pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), np.uint8)


@settings(max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 9))
def test_a_view_is_a_square_of_the_same_bits_each_time(height: int, width: int, number: int) -> None:
    image = pixels(height, width)
    once, again = view(image, KEY, number), view(image.copy(), KEY, number)
    np.testing.assert_array_equal(once, again)
    assert (once.dtype, once.shape) == (np.uint8, (min(height, width),) * 2 + (3,))


def test_view_0_is_the_image_and_the_others_differ_from_it_and_each_other() -> None:
    image = pixels(32, 32)
    np.testing.assert_array_equal(view(image, KEY, 0), image)
    seen = {view(image, KEY, number).tobytes() for number in range(9)}
    assert len(seen) == 9
    assert view(image, b"o" * 32, 1).tobytes() not in seen
    assert len({view_key(key, number) for key in (KEY, b"o" * 32) for number in range(9)}) == 18
    assert view_key(KEY, 0) == KEY
    assert len(view_key(KEY, 1)) == 32


def test_views_are_crops_of_the_middle_square_mirrored_half_of_the_time_in_another_light() -> None:
    """Read off an image whose red is the column and whose green is the row."""
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[..., 0], wide[..., 1] = np.arange(300)[None] * 255 // 300, np.arange(100)[:, None] * 2
    mirrored, areas, shapes, light = [], [], [], []
    flat = np.full((9, 9, 3), 128, np.uint8)
    for number in range(1, 400):
        seen = view(wide, KEY, number).astype(float)
        red, green = seen[..., 0].mean(0), seen[..., 1].mean(1)
        mirrored.append(red[0] > red[-1])
        spans = np.abs(red[-1] - red[0]) / 255 * 300, np.abs(green[-1] - green[0]) / 2
        shapes.append(spans[0] / spans[1])
        areas.append(spans[0] * spans[1] / 100**2)
        light.append(view(flat, KEY, number).mean() / 128)
    assert 0.4 < np.mean(mirrored) < 0.6
    assert 0.7 < min(shapes) < 0.85
    assert 1.2 < max(shapes) < 1.45
    assert min(areas) > 0.6 * 0.8**2 * 0.9  # contrast shrinks what is read off by a fifth a side
    assert 0.79 < min(light) < 0.82
    assert 1.18 < max(light) < 1.21


def images_of(root: Path) -> list[Image]:
    return list(read_source(root).images)


@pytest.mark.parametrize("seed", [0, 1])
def test_only_training_images_get_views(tmp_path: Path, folder_of_classes, seed: int) -> None:
    images, backbone = images_of(folder_of_classes(12)), shared_backbone()
    config = RunConfig(seed=seed, augment=2)
    store = open_store(backbone, str(tmp_path / "store"))
    calls: list[tuple[int, int]] = []
    result = extract(
        store, backbone, images, views=training_views(config), progress=lambda *done: calls.append(done)
    )
    splits = [
        split_of(image, key or b"", seed, config.test_fraction, config.validation_fraction)
        for image, key in zip(images, result.keys, strict=True)
    ]
    assert set(splits) == {"train", "validation", "test"}
    for key, split in zip(result.keys, splits, strict=True):
        assert [view_key(key or b"", number) in store for number in (1, 2, 3)] == [split == "train"] * 2 + [
            False
        ]
    passes = 36 + 2 * splits.count("train")
    assert (calls[0], calls[-1]) == ((0, passes), (passes, passes))
    assert (result.extracted, result.reused, len(store)) == (36, 0, passes)


def test_a_store_is_used_again_whatever_the_seed(tmp_path: Path, folder_of_classes) -> None:
    images, backbone = images_of(folder_of_classes(12)), shared_backbone()
    store = open_store(backbone, str(tmp_path / "store"))
    first = extract(store, backbone, images, views=training_views(RunConfig(augment=1)))
    training = {key for key in first.keys if key and view_key(key, 1) in store}
    before = len(store)
    again = extract(store, backbone, images, views=training_views(RunConfig(augment=1)))
    assert (again.extracted, again.reused, len(store)) == (0, 36, before)
    other = RunConfig(seed=5, augment=1)
    new = {
        key
        for image, key in zip(images, first.keys, strict=True)
        if key and split_of(image, key, 5, other.test_fraction, other.validation_fraction) == "train"
    }
    extract(store, backbone, images, views=training_views(other))
    assert len(store) == before + len(new - training)
    extract(store, backbone, images, views=training_views(RunConfig(augment=3)))
    assert len(store) == before + len(new - training) + 2 * len(training)


@pytest.mark.run
def test_features_of_views_are_those_of_the_network_whatever_the_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grey, tiny, wide and large images; many views straddle batches; with one thread and two."""
    backbone = load_backbone(BUNDLED)
    pictures = {
        "grey.png": picture((90, 90, 90), 1).convert("L"),
        "tiny.png": picture((190, 20, 20), 2, (8, 8)),
        "wide.png": picture((20, 190, 20), 3, (90, 30)),
        "large.jpg": picture((20, 20, 190), 4, (300, 280)),
    }
    (tmp_path / "images" / "one").mkdir(parents=True)
    for name, drawn in pictures.items():
        drawn.save(tmp_path / "images" / "one" / name)
    images = [Image(str(tmp_path / "images" / "one" / name), "one", "train") for name in pictures]
    count = 12
    monkeypatch.setattr("fedtransfer.common.features.extraction.BATCH", {True: 16})
    stores = []
    for threads in (1, 2):
        store = open_store(backbone, str(tmp_path / f"store-{threads}"))
        result = extract(store, backbone, images, views=lambda image, key: count, threads=threads)
        assert not result.problems
        stores.append(store)
    for image, key in zip(images, result.keys, strict=True):
        wanted = [view_key(key or b"", number) for number in range(count + 1)]
        first, second = (store.read(wanted) for store in stores)
        np.testing.assert_array_equal(first, second)
        assert len(np.unique(first, axis=0)) == count + 1
        for number in (0, 1, count):
            seen = view(decode(image.read()), key or b"", number)
            expected = backbone.network(backbone.resize(seen[None]), training=False)[0]
            np.testing.assert_allclose(first[number], expected, atol=2e-5)


def test_copies_share_their_views_and_get_the_most_that_is_wanted(tmp_path: Path) -> None:
    backbone, buffer = shared_backbone(), io.BytesIO()
    picture((90, 90, 90), 1).save(buffer, "PNG")
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    for path in paths:
        path.write_bytes(buffer.getvalue())
    images = [Image(str(paths[0]), "one", "test"), Image(str(paths[1]), "one", "train")]
    store = open_store(backbone, str(tmp_path / "store"))
    result = extract(store, backbone, images, views=training_views(RunConfig(augment=2)))
    assert (result.extracted, result.reused, len(store)) == (1, 1, 3)


def test_an_image_that_vanishes_before_its_views_are_made_is_left_out(
    tmp_path: Path, folder_of_classes
) -> None:
    root, backbone = folder_of_classes(3), shared_backbone()
    images = images_of(root)
    store = open_store(backbone, str(tmp_path / "store"))
    extract(store, backbone, images)
    gone = root / "red" / "1.png"

    def vanish(done: int, total: int) -> None:
        gone.unlink(missing_ok=True)

    result = extract(store, backbone, images, views=lambda image, key: 1, progress=vanish)
    assert [Path(problem.path) for problem in result.problems] == [gone]
    assert result.keys.count(None) == 1
    assert result.extracted == 8


def test_content_that_changes_meanwhile_is_left_out_unless_all_its_views_are_there(tmp_path: Path) -> None:
    backbone, path = shared_backbone(), tmp_path / "a.png"
    picture((90, 90, 90), 1).save(path)
    store = open_store(backbone, str(tmp_path / "store"))

    def change(done: int, total: int) -> None:
        picture((20, 190, 20), 2).save(path)

    first = content_key(path.read_bytes())
    image = Image(str(path), "one")
    result = extract(store, backbone, [image], views=lambda image, key: int(key != first), progress=change)
    assert [problem.reason for problem in result.problems] == ["changed while it was read"]
    assert Pillow.open(path).size == (40, 32)
