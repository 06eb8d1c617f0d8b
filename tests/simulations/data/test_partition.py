from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.images import Image
from fedtransfer.common.errors import UserError
from fedtransfer.simulations.data.partition import partition


def images(classes: int = 5, each: int = 60, test: int = 20) -> list[Image]:
    return [
        Image(f"{split}-{c}-{i}", str(c), split)
        for c in range(classes)
        for split, n in (("development", each), ("test", test))
        for i in range(n)
    ]


@settings(deadline=None)
@given(st.sampled_from(["iid", "dirichlet", "pathological"]), st.integers(2, 12), st.integers(0, 50))
def test_every_image_is_at_one_site_and_seeds_repeat(kind: str, sites: int, seed: int) -> None:
    config = RunConfig(partition=kind, sites=sites, seed=seed, alpha=1.0, classes_per_site=3, min_images=3)
    pool = images()
    parts = partition(pool, config)
    assert len(parts) == sites
    assert Counter(image.path for part in parts for image in part) == Counter(image.path for image in pool)
    assert all(sum(image.split != "test" for image in part) >= 3 for part in parts)
    assert parts == partition(pool, config)


def test_test_images_follow_the_training_images() -> None:
    parts = partition(images(each=600, test=200), RunConfig(sites=4, alpha=0.3))
    for part in parts:
        train, test = (
            Counter(image.label for image in part if (image.split == "test") == side)
            for side in (False, True)
        )
        for label in map(str, range(5)):
            assert test[label] == pytest.approx(train[label] / 3, abs=2)


def test_smaller_alpha_is_more_unequal() -> None:
    def spread(alpha: float) -> float:
        parts = partition(images(each=300), RunConfig(sites=5, alpha=alpha, min_images=1))
        counts = np.array([[sum(i.label == str(c) for i in part) for c in range(5)] for part in parts])
        return float((counts / counts.sum(0)).max(0).mean())

    assert spread(0.1) > spread(1.0) > spread(100.0)


def test_pathological_sites_have_so_many_classes_and_every_class_is_somewhere() -> None:
    parts = partition(images(classes=10), RunConfig(partition="pathological", sites=7, classes_per_site=2))
    assert all(len({image.label for image in part}) == 2 for part in parts)
    assert len({image.label for part in parts for image in part}) == 10


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sites": 100}, "too few for 10 each; lower --sites or --min-images"),
        ({"sites": 20, "alpha": 0.01}, "raise --alpha"),
        ({"partition": "pathological", "classes_per_site": 9}, "the data have 5 classes"),
        ({"partition": "pathological", "sites": 2, "classes_per_site": 2}, "cannot hold 5 classes"),
    ],
)
def test_impossible_partitions_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        partition(images(), RunConfig(**settings))


def test_iid_sites_are_of_one_size_even_when_there_are_many() -> None:
    """Sites get no image of most classes: equal parts of classes would leave some with none."""
    parts = partition(images(classes=10, each=50), RunConfig(partition="iid", sites=400, min_images=1))
    assert {sum(image.split != "test" for image in part) for part in parts} == {1, 2}
    assert sorted(image.path for part in parts for image in part) == sorted(
        image.path for image in images(classes=10, each=50)
    )
