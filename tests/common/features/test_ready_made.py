"""Features that a site has already stand in place of a backbone's."""

from pathlib import Path

import numpy as np
import pytest

from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import RunConfig, make_config
from fedtransfer.common.data.images import decode, vector
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.extraction import extract, open_store

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
