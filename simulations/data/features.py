"""The features of all simulated sites: extracted in one pass, then divided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedtransfer.client.data import SPLITS, SiteData, divide_images
from fedtransfer.common.backbone.backbone import ReadyMade, configured_backbone
from fedtransfer.common.compute import device
from fedtransfer.common.data.checks import examine, examine_sites
from fedtransfer.common.data.images import split_of
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.extraction import Extraction, Progress, extract_all
from fedtransfer.common.features.feature_map import feature_width
from fedtransfer.common.head.cost import costs
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.simulations.data.sites import Data, warn_of_site_folders
from fedtransfer.simulations.display import Display
from fedtransfer.simulations.privacy.statement import delta_warning, strength


@dataclass(frozen=True)
class Features:
    """The features of a simulation."""

    extraction: Extraction  # the keys and problems of ``Data.images``
    sites: Mapping[str, SiteData]  # site → its divided images with features, for all sites in name order
    seconds: float = 0.0  # wall time of the step, including the time to load the backbone
    device: str = ""  # what computes them, for people; "" for ready-made features
    warnings: Sequence[str] = ()  # findings that deserve a second look before training


def prepare_sites(data: Data, progress: Progress | None = None) -> Features:
    """Extract the features of all sites in one pass, so that small sites fill batches too.

    Raises:
        UserError: the backbone is not usable, or no image can be read.
    """
    config = data.config
    extraction, stores = extract_all(configured_backbone(config), data.images, config, progress)
    if not any(extraction.keys):
        first = (*data.problems, *extraction.problems)[0]
        raise UserError(
            f"none of the {len(extraction.keys)} images of {config.data} can be read; "
            f"the first: {first.path}: {first.reason}"
        )
    keys = iter(extraction.keys)
    sites = {
        name: divide_images(images, [next(keys) for _ in images], stores, config)
        for name, images in data.everyone.items()
    }
    backbone = configured_backbone(config)
    return Features(
        extraction, sites, device="" if isinstance(backbone, ReadyMade) else device(backbone.engine)
    )


def announce(data: Data, display: Display) -> None:
    """Load the backbone; print which features it gives, what will be trained, and at what cost."""
    config, images = data.config, data.images
    backbone = configured_backbone(config)
    if isinstance(backbone, ReadyMade):
        origin = f" ({backbone.name})" if "@" in backbone.name else ""
        display.print(f"Ready-made features of width {backbone.features}{origin}; no backbone is loaded")
    else:
        display.print(f"Backbone {backbone.name} at {backbone.resolution} px on {device(backbone.engine)}")
    for note in backbone.notes:
        display.print(note)
    if not config.closed_form:
        trainable = sum(image.split in ("", "train") for image in images)
        views = round(trainable * (1 - config.validation_fraction)) * config.augment
        for cost in costs(config, backbone, len({image.label for image in images}), len(images) + views):
            display.print(str(cost))


def find_warnings(data: Data, features: Features, display: Display) -> list[str]:
    """Check images and privacy settings before training; print and return the warnings.

    Printed with them is how the noise of differential privacy compares with the signal.
    """
    config, images, keys = data.config, data.images, features.extraction.keys
    shares = config.seed, config.test_fraction, config.validation_fraction
    splits = [split_of(image, key, *shares) if key else "" for image, key in zip(images, keys, strict=True)]
    sites = features.sites.items()
    splits_of = {name: [split for split in SPLITS if site.images(split)] for name, site in sites}
    warnings = examine(images, keys, splits) + examine_sites(splits_of) + warn_of_site_folders(config)
    if promised := guarantee(config):
        width, trained = feature_width(config, configured_backbone(config)), splits.count("train")
        comparison = strength(config, promised, width, len(config.declared_classes), trained)
        display.print(comparison.words)
        warnings += filter(None, (comparison.warning, delta_warning(config, trained)))
    for warning in warnings:
        display.warn(warning)
    return warnings
