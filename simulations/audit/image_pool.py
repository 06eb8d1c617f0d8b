"""The images that an audit is about: each at its site, some of them trained on, the others not."""

from dataclasses import dataclass
from itertools import compress, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.feature_table import row_of
from fedtransfer.common.data.images import Image, decode, split_of
from fedtransfer.common.data.sources import natural_order, read_source
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.extraction import Progress, extract_all
from fedtransfer.common.features.feature_map import Moments, feature_map
from fedtransfer.common.head.head import load_moments
from fedtransfer.common.seeds import generator
from fedtransfer.simulations.audit.decoder import NO_IMAGES, may_be_known
from fedtransfer.simulations.audit.federation import Split
from fedtransfer.simulations.data.datasets import resolve_data
from fedtransfer.simulations.data.partition import partition


@dataclass(frozen=True)
class ImagePool:
    """Images of several sites, with their features."""

    images: dict[str, tuple[Image, ...]]  # of each site, in the order of its rows
    sites: dict[str, Split]  # features (n, d) float32 as heads see them, class numbers (n,)
    inside: dict[str, NDArray[np.bool_]]  # (n,), which of its images a site trains on
    classes: tuple[str, ...]  # names by number

    @property
    def members(self) -> dict[str, Split]:
        """Site → what it trains on."""
        return {site: (x[self.inside[site]], y[self.inside[site]]) for site, (x, y) in self.sites.items()}

    def pictures(self, side: int) -> dict[str, NDArray[np.uint8]]:
        """Return what a person sees in the images trained on: site → (m, side, side, 3).

        Raises:
            UserError: the sites hold ready-made features.
        """
        if any(row_of(image.path) for images in self.images.values() for image in images):
            raise UserError(NO_IMAGES)

        def small(image: Image) -> NDArray[np.uint8]:
            return np.asarray(
                Pillow.fromarray(decode(image.read())).resize((side, side), Pillow.Resampling.BOX)
            )

        return {
            site: np.stack([small(image) for image in compress(images, self.inside[site])])
            for site, images in self.images.items()
        }


def drawn_pool(config: RunConfig, each: int, progress: Progress | None = None) -> ImagePool:
    """Draw 2 · ``each`` training images of every class, each for a site; half are trained on.

    Which are trained on is drawn class by class, so that members are ``each`` images of every
    class. Images that the decoder may have been trained on come last.

    Raises:
        UserError: a class has too few images.
    """
    rng = generator(config.seed, "audited images")
    by_class = _by_class(config, "train")
    chosen: list[Image] = []
    inside: dict[str, bool] = {}
    for name, images in by_class.items():
        if len(images) < 2 * each:
            raise UserError(
                f"{config.data}: class {name!r} has {len(images)} training images; "
                f"an audit of {each} images a class needs {2 * each}, half of them as non-members. "
                "Ask for fewer images a class, or give more data"
            )
        shuffled = [images[row] for row in rng.permutation(len(images)).tolist()]
        targets = sorted(shuffled, key=_may_be_known)[: 2 * each]
        inside |= {image.path: number < each for number, image in enumerate(targets)}
        chosen += targets
    divided = partition(chosen, config)
    digits = len(str(config.sites - 1))
    images_of = {f"site-{k:0{digits}}": tuple(part) for k, part in enumerate(divided)}
    marked = {site: np.array([inside[i.path] for i in part], np.bool_) for site, part in images_of.items()}
    return _with_features(config, images_of, marked, natural_order(by_class), None, progress)


def others(config: RunConfig, classes: tuple[str, ...], progress: Progress | None = None) -> Split:
    """Return features and class numbers of the data's test images, which no drawn pool has."""
    images = [image for group in _by_class(config, "test").values() for image in group]
    return _with_features(config, {"test": tuple(images)}, {}, classes, None, progress).sites["test"]


def pool_of_run(
    folder: Path, config: RunConfig, classes: tuple[str, ...], progress: Progress | None = None
) -> tuple[ImagePool, Split]:
    """Return a simulated run's images, its test images apart, with features and class numbers.

    Training images were trained on, validation images were not.

    Raises:
        UserError: the folder does not say which images the sites had.
    """
    manifests = {path.parent.name: path for path in sorted((folder / "sites").glob("*/images.csv"))}
    if not manifests:
        raise UserError(
            f"{folder}: no sites/NAME/images.csv in it; "
            "expected the folder of a run of fedtransfer simulate, whose sites and images are known. "
            "What real sites hold cannot be audited from outside"
        )
    images_of: dict[str, tuple[Image, ...]] = {}
    inside: dict[str, NDArray[np.bool_]] = {}
    tests: list[Image] = []
    for site, manifest in manifests.items():
        images = read_source(manifest).images
        splits = [
            split_of(i, i.key(), config.seed, config.test_fraction, config.validation_fraction)
            for i in images
        ]
        pairs = list(zip(images, splits, strict=True))
        images_of[site] = tuple(image for image, split in pairs if split != "test")
        inside[site] = np.array([split == "train" for split in splits if split != "test"], np.bool_)
        tests += [image for image, split in pairs if split == "test"]
    moments = load_moments(folder / "head.npz")
    pool = _with_features(config, images_of, inside, classes, moments, progress)
    return pool, _with_features(config, {"test": tuple(tests)}, {}, classes, moments, progress).sites["test"]


def _may_be_known(image: Image) -> bool:
    content = image.read()
    return not isinstance(content, bytes) and may_be_known(content)


def _by_class(config: RunConfig, split: str) -> dict[str, list[Image]]:
    """Return class → the data's images on one side of the split."""
    by_class: dict[str, list[Image]] = {}
    for image in read_source(resolve_data(config.data)).images:
        side = image.split or split_of(image, image.key(), config.seed, config.test_fraction, 0.0)
        if ("test" if side == "test" else "train") == split:
            by_class.setdefault(image.label, []).append(image)
    return by_class


def _with_features(
    config: RunConfig, images_of: dict[str, tuple[Image, ...]], inside: dict[str, NDArray[np.bool_]],
    classes: tuple[str, ...], moments: Moments | None, progress: Progress | None,
) -> ImagePool:  # fmt: skip
    """Extract features; leave out unreadable images, and sites that have nothing to train on."""
    backbone = configured_backbone(config)
    mapped = feature_map(config, backbone, moments)
    number = {name: i for i, name in enumerate(classes)}
    extraction, stores = extract_all(
        backbone, [i for part in images_of.values() for i in part], config, progress
    )
    [store] = stores.values()
    keys = iter(extraction.keys)
    images, sites, marked = {}, {}, {}
    for site, part in images_of.items():
        readable = [(row, key) for row, key in enumerate(islice(keys, len(part))) if key is not None]
        rows = [row for row, _ in readable]
        if site in inside:
            if not inside[site][rows].any():
                continue
            marked[site] = inside[site][rows]
        images[site] = tuple(part[row] for row in rows)
        labels = np.array([number[image.label] for image in images[site]], np.int64)
        sites[site] = mapped(store.read([key for _, key in readable])), labels
    return ImagePool(images, sites, marked, classes)
