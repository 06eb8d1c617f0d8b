"""One site's data: its images, each in its split, with their features ready to train on.

A simulated site and a real one are the same thing: a list of images, each with its label, from a place
(``client/place.py``).
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from common.backbone import configured_backbone
from common.config import RunConfig
from common.errors import SiteError
from common.extraction import Progress, extract, open_store
from common.features import normalise
from common.images import Image
from common.splits import split_of

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Site:
    """Features and labels of one site. Features are read from the store when they are first worked with.

    Attributes:
        keys: split → the images' keys in the feature store.
        labels: split → class names (n,).
        unreadable: images that were left out.
    """

    keys: dict[str, list[bytes]]
    labels: dict[str, NDArray[np.str_]]
    unreadable: int
    _read: Callable[[Sequence[bytes]], NDArray[np.float32]] = field(repr=False)
    _numbers: dict[tuple[str, tuple[str, ...]], NDArray[np.int64]] = field(default_factory=dict, repr=False)

    @cached_property
    def features(self) -> dict[str, NDArray[np.float32]]:
        """Split → normalised features (n, d) float32."""
        return {split: self._read(self.keys[split]) for split in SPLITS}

    def data(self, split: str, classes: tuple[str, ...]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return features (n, d) and class numbers (n,) of a split, numbered as ``classes`` are.

        Raises:
            SiteError: the site has a class that is not among ``classes``.
        """
        if (split, classes) not in self._numbers:
            number = {name: i for i, name in enumerate(classes)}
            if set(self.labels[split].tolist()) - set(number):
                raise SiteError("unknown-class", "the site has a class that the federation does not know")
            self._numbers[split, classes] = np.array([number[name] for name in self.labels[split].tolist()], np.int64)
        return self.features[split], self._numbers[split, classes]

    @cached_property
    def held_out(self) -> NDArray[np.float32]:
        """Features of the validation images, then of the test images: what a head is scored on, in one piece."""
        return np.concatenate([self.features["validation"], self.features["test"]])

    def images_by_class(self) -> dict[str, tuple[int, int, int]]:
        """Count the images of each class in (train, validation, test)."""
        counts = {split: Counter(self.labels[split].tolist()) for split in SPLITS}
        names = sorted(set().union(*counts.values()))
        return {name: (counts["train"][name], counts["validation"][name], counts["test"][name]) for name in names}


def prepare_site(
    images: Sequence[Image], config: RunConfig, progress: Progress | None = None, least_images: int = 0
) -> Site:
    """Extract what features are missing, and divide a site's images into train, validation and test.

    Args:
        images: the site's.
        config: backbone, store, seed and shares.
        progress: told how many of the missing images are done.
        least_images: a class with training images, but fewer different ones than this, is kept out.

    Raises:
        UserError: the images or the backbone are not usable.
    """
    backbone = configured_backbone(config)
    store = open_store(backbone, config.store)
    extraction = extract(store, backbone, images, threads=config.threads, strict=config.strict, progress=progress)
    keys: dict[str, list[bytes]] = {split: [] for split in SPLITS}
    labels: dict[str, list[str]] = {split: [] for split in SPLITS}
    for image, key in zip(images, extraction.keys, strict=True):
        if key is not None:
            split = split_of(image, key, config.seed, config.test_fraction, config.validation_fraction)
            keys[split].append(key)
            labels[split].append(image.label)

    different = {(key, label) for key, label in zip(keys["train"], labels["train"], strict=True)}
    counts = Counter(label for _, label in different)
    if rare := {label for label, number in counts.items() if number < least_images}:
        log.warning("kept out for having fewer than %d training images: %s", least_images, ", ".join(sorted(rare)))
        for split in SPLITS:
            kept = [i for i, label in enumerate(labels[split]) if label not in rare]
            keys[split], labels[split] = [keys[split][i] for i in kept], [labels[split][i] for i in kept]

    def read(wanted: Sequence[bytes]) -> NDArray[np.float32]:
        raw = store.read(wanted)
        return normalise(raw, backbone.mean) if config.normalise else raw

    return Site(keys, {split: np.array(labels[split], np.str_) for split in SPLITS}, len(extraction.problems), read)
