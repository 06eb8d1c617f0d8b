"""One site: classes with too few images are kept out, and features are as heads see them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedtransfer.client.data import SiteData, prepare_site
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.feature_map import moments_of
from fedtransfer.common.features.store import FeatureStore


@pytest.mark.parametrize(
    ("least", "classes"), [(0, {"blue", "green", "red"}), (3, {"green", "red"}), (100, set())]
)
def test_the_bound_is_on_different_training_images(folder_of_classes, least: int, classes: set[str]) -> None:
    """Copies do not count, nor do images that the run's shares take out of training."""
    images = [replace(image, split="train") for image in read_source(folder_of_classes(12)).images]
    blue = next(image for image in images if image.label == "blue")
    others = [image for image in images if image.label != "blue"]
    tested = [replace(image, split="test") for image in images if image.label == "blue"][:5]
    site = prepare_site([*others, *[blue] * 20, *tested], RunConfig(), least_images=least)
    assert set(site.images_by_class()) == classes
    assert {label for labels in site.labels.values() for label in labels.tolist()} == classes
    for split, keys in site.keys.items():
        assert len(keys) == len(site.labels[split])


CLASSES = ("blue", "green", "red")


def site(root: Path, **settings: object) -> SiteData:
    return prepare_site(read_source(root).images, RunConfig(**settings))


def test_views_stand_beside_training_images_and_nowhere_else(folder_of_classes) -> None:
    root = folder_of_classes(12)
    plain, more = site(root), site(root, augment=2)
    n = plain.images("train")
    assert more.images("train") == n
    assert more.images_by_class() == plain.images_by_class()
    (x, y), (x0, y0) = more.data("train", CLASSES), plain.data("train", CLASSES)
    assert (x.shape, y.shape) == ((3 * n, 256), (3 * n,))
    np.testing.assert_array_equal(x[:n], x0)
    np.testing.assert_array_equal(y, [*y0, *y0, *y0])
    assert len(np.unique(x, axis=0)) == 3 * n
    for split in ("validation", "test"):
        np.testing.assert_array_equal(more.data(split, CLASSES)[0], plain.data(split, CLASSES)[0])
    np.testing.assert_array_equal(more.features()["held out"], plain.features()["held out"])


def test_features_follow_the_federations_moments(folder_of_classes, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = site(folder_of_classes(12), standardise="federated", normalise=False, augment=1)
    raw = ready.raw("train")
    assert raw.shape == (2 * ready.images("train"), 256)
    with pytest.raises(UserError, match="mean and deviation are missing"):
        ready.data("train", CLASSES)
    wide = raw.astype(np.float64)
    moments = moments_of(len(wide), wide.sum(0), (wide**2).sum(0))
    x, _ = ready.data("train", CLASSES, moments)
    live = moments[1] > 0
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(x.std(0)[live], 1, rtol=1e-3)
    other = (moments[0], 2 * moments[1])
    np.testing.assert_allclose(ready.data("train", CLASSES, other)[0][:, live], x[:, live] / 2, rtol=1e-6)
    np.testing.assert_array_equal(
        ready.features(other)["held out"],
        np.concatenate([ready.data(split, CLASSES, other)[0] for split in ("validation", "test")]),
    )
    reads: list[int] = []
    read = FeatureStore.read
    monkeypatch.setattr(
        FeatureStore, "read", lambda store, keys: reads.append(len(keys)) or read(store, keys)
    )
    for _ in range(3):
        ready.data("train", CLASSES, tuple(array.copy() for array in other))
    assert reads == [], "the same moments come with every message of a run"


def test_a_site_knows_the_width_that_heads_see(folder_of_classes) -> None:
    ready = site(folder_of_classes(12), project="random", dimensions=9)
    assert ready.features()["held out"].shape[1] == 9
