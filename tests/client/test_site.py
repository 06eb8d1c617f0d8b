"""Classes that would be trained on too few images are kept out of a site."""

from dataclasses import replace

import pytest

from client.site import prepare_site
from common.config import RunConfig
from common.sources import read_source


@pytest.mark.parametrize(("least", "classes"), [(0, {"blue", "green", "red"}), (3, {"green", "red"}), (100, set())])
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
