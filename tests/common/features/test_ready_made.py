"""Features that a site has already stand in place of a backbone's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from feature_files import vectors, write
from pictures import class_folders

from fedtransfer.common.backbone.backbone import Backbone, configured_backbone
from fedtransfer.common.config.config import RunConfig, make_config
from fedtransfer.common.data import feature_table
from fedtransfer.common.data.feature_card import FeatureCard
from fedtransfer.common.data.feature_table import FeatureTable
from fedtransfer.common.data.images import Problem, decode, vector
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.extraction import extract, extract_all, open_store
from fedtransfer.common.features.ready_made import card_for, without_network

ROWS = np.random.default_rng(0).normal(size=(5, 4))


def archive(folder: Path, rows: np.ndarray) -> Path:
    np.savez(folder / "features.npz", x_train=rows, y_train=np.arange(len(rows)) % 2)
    return folder / "features.npz"


@pytest.mark.parametrize("name", ["features-4", "my_net-features-4", "v2.1-features-4"])
def test_they_are_stored_as_they_are(tmp_path: Path, name: str) -> None:
    config = RunConfig(backbone=name, store=str(tmp_path / "store"))
    backbone, images = configured_backbone(config), read_source(archive(tmp_path, ROWS)).images
    store = open_store(backbone, config.store)
    found = extract(store, backbone, images)
    assert (backbone.features, found.extracted, found.problems) == (4, 5, ())
    np.testing.assert_array_equal(store.read([key for key in found.keys if key]), ROWS.astype(np.float32))
    assert extract(store, backbone, images).reused == 5


def test_the_fingerprint_is_that_of_the_name() -> None:
    names = ("features-4", "features-5", "other-features-4", "features-4")
    one, two, three, four = (configured_backbone(RunConfig(backbone=name)).fingerprint for name in names)
    assert one == four
    assert len({one, two, three}) == 3


def test_what_fits_not_is_left_out_with_the_reason(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[1] = np.nan
    config = RunConfig(backbone="features-4", store=str(tmp_path / "store"))
    backbone = configured_backbone(config)
    images = read_source(archive(tmp_path, rows)).images
    found = extract(open_store(backbone, config.store), backbone, images)
    assert [problem.reason for problem in found.problems] == ["features that are NaN or infinite"]
    assert [key is None for key in found.keys] == [False, True, False, False, False]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a file", "an image; --backbone features-4 expects ready-made features of width 4"),
        (np.zeros((2, 2, 3), np.uint8), "an image; --backbone features-4"),
        (np.zeros(5), "features of width 5; --backbone features-4 expects 4"),
    ],
)
def test_images_are_no_features(content: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        vector(content, 4)  # type: ignore[arg-type]


def test_features_are_no_image() -> None:
    with pytest.raises(ValueError, match="not an image; they go with --backbone features-4"):
        decode(ROWS[0])


@pytest.mark.parametrize("setting", ["augment", "resolution"])
def test_what_needs_pixels_is_refused(setting: str) -> None:
    with pytest.raises(UserError, match=f"{setting}: needs images; with features-4 the data are features"):
        make_config({"backbone": "features-4", setting: 64}, "options")


@pytest.mark.parametrize("name", ["features-0", "features-", "features-x", "-features-4x"])
def test_a_width_is_a_number(name: str) -> None:
    with pytest.raises(UserError, match="or features-D"):
        make_config({"backbone": name}, "options")


def bundled() -> Backbone:
    return configured_backbone(RunConfig())


def card(**changes: object) -> dict[str, object]:
    """What a file of the bundled network's features says."""
    return {"name": "any", "width": 256, "sha256": bundled().identity, "resolution": 64} | changes


def test_images_and_rows_of_the_same_network_are_in_one_store(tmp_path: Path) -> None:
    """The network is not loaded for the rows; each row has its own place among the keys."""
    folder = class_folders(tmp_path / "images", 0, n=1)
    config, network = RunConfig(store=str(tmp_path / "store")), bundled()
    rows = read_source(write(tmp_path / "f.npz", vectors(3, 256), card())).images
    store = open_store(network, config.store)
    alone = extract(store, replace(network, compiled=None, engine="none"), rows)
    assert alone.extracted == 3
    pictures = read_source(folder).images
    mixed = [pictures[0], rows[0], pictures[1], rows[2]]
    found = extract(store, network, mixed)
    assert (found.extracted, found.reused, found.problems) == (2, 2, ())
    np.testing.assert_array_equal(store.read([found.keys[1], found.keys[3]]), vectors(3, 256)[[0, 2]])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sha256": "0" * 64}, f"of any, width 256, sha256 {'0' * 64}; the run expects those of resnet"),
        ({"sha256": "", "version": "2"}, "of any, width 256, version 2; the run expects those of resnet"),
        ({"resolution": 224}, "features of images at 224 px; the run expects 64 px"),
    ],
)  # fmt: skip
def test_features_of_another_network_are_refused(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    images = read_source(write(tmp_path / "f.csv", vectors(3, 256), card(**changes))).images
    with pytest.raises(UserError, match=words) as refusal:
        extract_all(bundled(), images, RunConfig(store=str(tmp_path / "store")))
    if "resolution" not in changes:
        assert bundled().identity in str(refusal.value)


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ("conch-features-4@1.0", "of uni2-h, width 4, version 1.0; the run expects those of conch, width 4"),
        ("uni2-h-features-5@1.0", "the run expects those of uni2-h, width 5, version 1.0"),
        ("uni2-h-features-4@1.1", "the run expects those of uni2-h, width 4, version 1.1"),
        ("features-5", "the run expects those of an unnamed network, width 5"),
        ("uni2-h-features-4@1.0", ""),
        ("uni2-h-features-4", ""),
        ("features-4", ""),
    ],
)
def test_name_width_and_version_agree_with_the_run(tmp_path: Path, backbone: str, words: str) -> None:
    config = RunConfig(backbone=backbone, store=str(tmp_path / "store"))
    images = read_source(write(tmp_path / "f.h5", vectors(3))).images
    if words:
        with pytest.raises(UserError, match=words):
            extract_all(configured_backbone(config), images, config)
    else:
        assert extract_all(configured_backbone(config), images, config)[0].extracted == 3


@pytest.mark.parametrize("setting", [{"augment": 1}, {"trainable": "conv5"}, {"unfreeze_at": "2:conv5"}])
def test_what_needs_pixels_is_refused_for_rows(tmp_path: Path, setting: dict[str, object]) -> None:
    config = RunConfig(**setting)  # type: ignore[arg-type]
    images = read_source(write(tmp_path / "f.npz", vectors(3, 256), card())).images
    with pytest.raises(
        UserError, match=rf"f.npz: ready-made features; {next(iter(setting)).replace('_', '-')} needs"
    ):
        extract_all(bundled(), images, config)


def test_rows_that_are_no_numbers_are_named_and_left_out(tmp_path: Path) -> None:
    x = vectors(4)
    x[1, 3], x[2, 0] = np.nan, np.inf
    config = RunConfig(backbone="features-4", store=str(tmp_path / "store"))
    path = write(tmp_path / "f.parquet", x)
    backbone, images = configured_backbone(config), read_source(path).images
    found = extract(open_store(backbone, config.store), backbone, images)
    reason = "features that are NaN or infinite"
    assert found.problems == tuple(Problem(f"{path}#id=slide/{i}.svs", reason) for i in (1, 2))
    with pytest.raises(UserError, match=r"#id=slide/1.svs: features that are NaN or infinite \(--strict"):
        extract(open_store(backbone, config.store), backbone, images, strict=True)


def test_the_sha256_of_a_card_is_the_fingerprint_of_its_network() -> None:
    backbone = configured_backbone(RunConfig(backbone=f"any-features-256@{bundled().identity}"))
    assert backbone.fingerprint == bundled().fingerprint
    assert card_for(bundled(), 7) == FeatureCard(bundled().name, 256, bundled().identity, 64, 7)
    assert card_for(backbone) == FeatureCard("any", 256, bundled().identity)


def test_a_network_that_is_not_here_is_replaced_by_the_card(tmp_path: Path) -> None:
    """Without the network, its public mean is unknown, so nothing may be subtracted."""
    here = FeatureCard("net", 8, "ab" * 32)
    missing = str(tmp_path / "net.keras")
    run = RunConfig(backbone=missing, resolution=64, fit="pad", standardise="federated")
    stand_in = without_network(run, here, named=True)
    assert (stand_in.backbone, stand_in.resolution, stand_in.fit) == (here.backbone, 0, "crop")
    assert make_config(stand_in.to_flat(), "a kept result") == stand_in
    with pytest.raises(UserError, match="is not on this machine, and --standardise centre subtracts"):
        without_network(RunConfig(backbone=missing), here, named=True)
    Path(missing).touch()
    assert without_network(run, here, named=True) == run
    assert without_network(run, here, named=False) == stand_in  # a coordinator's path is not looked for
    for same in (RunConfig(), RunConfig(backbone="x-features-8@1")):
        assert without_network(same, here, named=True) == same


def test_a_file_is_read_from_front_to_end_whatever_the_order_of_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images are listed by class or by site: as many blocks would be read as there are rows."""
    monkeypatch.setattr(feature_table, "_BLOCK_BYTES", 10 * 4 * 4)
    path = write(tmp_path / "features.npz", vectors(300))
    images = list(read_source(path).images)
    np.random.default_rng(0).shuffle(images)  # type: ignore[arg-type]
    config = RunConfig(backbone="features-4", store=str(tmp_path / "store"))
    backbone, reads, read = configured_backbone(config), [], FeatureTable._read

    def counted(table: FeatureTable, number: int) -> np.ndarray:
        reads.append(number)
        return read(table, number)

    monkeypatch.setattr(FeatureTable, "_read", counted)
    store = open_store(backbone, config.store)
    found = extract(store, backbone, images, threads=1)
    assert len(reads) <= 2 * 30  # to compare contents, and to copy them
    expected = np.stack([image.read() for image in images])
    np.testing.assert_array_equal(store.read([key for key in found.keys if key]), expected)
