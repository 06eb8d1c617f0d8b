"""A site's data: the features and labels of its images, by split.

Simulated and real sites are the same: each lists labelled images (``client/node.py``).
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.backbone.cut import HEAD
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.images import Image, split_of
from fedtransfer.common.errors import SiteError
from fedtransfer.common.features.augmentation import view_key
from fedtransfer.common.features.extraction import Progress, extract_all
from fedtransfer.common.features.feature_map import FeatureMap, Moments, feature_map
from fedtransfer.common.features.store import FeatureStore
from fedtransfer.common.support.text import counted

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class SiteData:
    """Features and labels of one site. Features are read from the store on first use.

    For training, K augmented views follow the n images: first all images, then the first view of
    each, and so on, n · (K + 1) rows in all.
    """

    keys: dict[str, list[bytes]]  # split → the images' keys in the feature store
    labels: dict[str, NDArray[np.str_]]  # split → class names (n,)
    unreadable: int  # images left out because they cannot be read
    augment: int  # K
    _stores: Mapping[str, FeatureStore] = field(repr=False)
    _map: Callable[[Moments | None], FeatureMap] = field(repr=False)
    _numbers: dict[tuple[str, tuple[str, ...]], NDArray[np.int64]] = field(default_factory=dict, repr=False)
    _mapped: dict[tuple[str, bytes], dict[str, NDArray[np.float32]]] = field(default_factory=dict, repr=False)

    def images(self, split: str) -> int:
        """Return the number of images of a split, without their views."""
        return len(self.keys[split])

    def raw(self, split: str, layer: str = HEAD) -> NDArray[np.float32]:
        """Return features (rows, w) float32 as the backbone gives them at a cut."""
        views = range(self.augment + 1 if split == "train" else 1)
        return self._stores[layer].read(
            [view_key(key, number) for number in views for key in self.keys[split]]
        )

    def features(self, moments: Moments | None = None, layer: str = HEAD) -> dict[str, NDArray[np.float32]]:
        """Return split → features (rows, d') float32 as heads see them.

        ``held out`` are those of validation, then test images, to score a head in one pass. All are
        cached for the last moments and layer. Below the head's layer, features are as the network
        gives them at that cut.

        Raises:
            UserError: the run's features need moments, and they are missing.
        """
        key = layer, b"".join(array.tobytes() for array in moments or ())
        if key not in self._mapped:
            self._mapped.clear()
            apply = self._map(moments) if layer == HEAD else lambda x: x
            validation = self.images("validation")
            held_out = apply(np.concatenate([self.raw("validation", layer), self.raw("test", layer)]))
            self._mapped[key] = {
                "train": apply(self.raw("train", layer)),
                "validation": held_out[:validation],
                "test": held_out[validation:],
                "held out": held_out,
            }
        return self._mapped[key]

    def data(
        self, split: str, classes: tuple[str, ...], moments: Moments | None = None, layer: str = HEAD
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return what ``features`` and ``numbers`` give of a split: (rows, d') and (rows,)."""
        return self.features(moments, layer)[split], self.numbers(split, classes)

    def numbers(self, split: str, classes: tuple[str, ...]) -> NDArray[np.int64]:
        """Return the class numbers (rows,) of a split, as indices into ``classes``.

        Raises:
            SiteError: the site has a class that is not among ``classes``.
        """
        if (split, classes) not in self._numbers:
            number = {name: i for i, name in enumerate(classes)}
            if set(self.labels[split].tolist()) - set(number):
                raise SiteError("unknown-class", "the site has a class that the federation does not know")
            numbers = np.array([number[name] for name in self.labels[split].tolist()], np.int64)
            self._numbers[split, classes] = np.tile(numbers, self.augment + 1 if split == "train" else 1)
        return self._numbers[split, classes]

    def images_by_class(self) -> dict[str, tuple[int, int, int]]:
        """Count the images of each class in (train, validation, test)."""
        train, validation, test = (Counter(self.labels[split].tolist()) for split in SPLITS)
        names = sorted({*train, *validation, *test})
        return {name: (train[name], validation[name], test[name]) for name in names}


def prepare_site(
    images: Sequence[Image], config: RunConfig, progress: Progress | None = None, least_images: int = 0
) -> SiteData:
    """Extract missing features, and split a site's images into train, validation and test.

    Images are left out as in ``divide_images``; ``progress`` gets the number of missing images
    done, and their total.

    Raises:
        UserError: the images or the backbone are not usable.
    """
    if config.dp == "image":  # a refusal would reveal a single image
        declared = [image for image in images if image.label in config.declared_classes]
        if undeclared := len(images) - len(declared):
            log.warning("left out: %s of classes that the run does not declare", counted(undeclared, "image"))
        images = declared
    extraction, stores = extract_all(configured_backbone(config), images, config, progress)
    return divide_images(images, extraction.keys, stores, config, least_images)


def divide_images(
    images: Sequence[Image], keys: Sequence[bytes | None], stores: Mapping[str, FeatureStore],
    config: RunConfig, least_images: int = 0,
) -> SiteData:  # fmt: skip
    """Divide a site's images, whose features are stored, into train, validation and test.

    Under differential privacy of images, those of undeclared classes are left out. So is a class
    with training images, but fewer different ones than ``least_images``.

    Args:
        keys: the content key of each image, None for one that cannot be read.
        stores: layer → the store with its features.
        config: seed, shares, and what becomes of features.
    """
    shares = (config.seed, config.test_fraction, config.validation_fraction)
    rows = [
        (split_of(image, key, *shares), key, image.label)
        for image, key in zip(images, keys, strict=True)
        if key is not None and (config.dp != "image" or image.label in config.declared_classes)
    ]
    different = {(key, label) for split, key, label in rows if split == "train"}
    counts = Counter(label for _, label in different)
    if rare := {label for label, number in counts.items() if number < least_images}:
        names = ", ".join(sorted(rare))
        log.warning("classes left out with fewer than %d training images: %s", least_images, names)
        rows = [row for row in rows if row[2] not in rare]
    stored = {split: [key for part, key, _ in rows if part == split] for split in SPLITS}
    labels = {split: np.array([name for part, _, name in rows if part == split], np.str_) for split in SPLITS}
    unreadable = sum(key is None for key in keys)
    apply = partial(feature_map, config, configured_backbone(config))
    return SiteData(stored, labels, unreadable, config.augment, stores, apply)


class Preparation:
    """A site's preparation in the background, so that a query is answered with its progress."""

    def __init__(self, prepare: Callable[[Progress], SiteData]) -> None:
        self.done, self.total = 0, 0  # images that went through the backbone so far, and that must in all
        self._data: Future[SiteData] = Future()
        Thread(target=self._run, args=(prepare,), name="preparation", daemon=True).start()

    def data(self, patience: float | None = None) -> SiteData | None:
        """Return the site's data once it is ready, or None after ``patience`` seconds (None: wait).

        Raises:
            UserError: the site cannot be prepared.
        """
        wait([self._data], patience)
        return self._data.result() if self._data.done() else None

    def _run(self, prepare: Callable[[Progress], SiteData]) -> None:
        try:
            self._data.set_result(prepare(self._report))
        except Exception as error:
            self._data.set_exception(error)

    def _report(self, done: int, total: int) -> None:
        self.done, self.total = done, total
