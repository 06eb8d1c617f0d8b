"""SettingsGroup of images, the backbone that sees them, and what becomes of its features."""

import re
from typing import Literal

from fedtransfer.common.config.settings.option import SettingsGroup, option

BUNDLED = "resnet18v2-tinyimagenet"
KERAS_BACKBONES = {"resnet50v2": "ResNet50V2", "resnet101v2": "ResNet101V2", "resnet152v2": "ResNet152V2"}
_READY_MADE = re.compile(r"(?:[\w.-]+-)?features-([1-9]\d*)")


def ready_made_width(backbone: str) -> int:
    """Return D of ``features-D`` or ``NAME-features-D``, if sites hold features and no images; else 0."""
    match = _READY_MADE.fullmatch(backbone)
    return int(match[1]) if match else 0


class DataSettings(SettingsGroup):
    """Which images, and how they are spread over simulated sites."""

    data: str = option(
        "cifar10-demo",
        "Data",
        "A data set by name (cifar10-demo, cifar10, cifar100, fashion-mnist, mnist), a folder with a folder"
        " a class, a CSV manifest (path,label[,split][,group]) or an .npz archive.",
        min_length=1,
    )
    sites: int = option(
        10, "Data", "Number of sites (with --partition natural: taken from the data).", ge=1, le=100_000
    )
    unseen_sites: int = option(
        0,
        "Data",
        "Number of simulated sites held out of training; afterwards each adapts the head with 1, 5 and 20 images per"
        " class.",
        ge=0,
    )
    partition: Literal["iid", "dirichlet", "pathological", "natural"] = option(
        "dirichlet",
        "Data",
        "How images are spread over sites; natural: each folder of --data is a site with its class folders.",
    )
    alpha: float = option(
        0.3, "Data", "Dirichlet concentration: the smaller, the more the sites differ in classes.", gt=0
    )
    classes_per_site: int = option(2, "Data", "Classes at each site (with --partition pathological).", ge=1)
    min_images: int = option(10, "Data", "Least number of images a simulated site must get.", ge=1)
    test_fraction: float = option(
        0.2, "Data", "Share set aside for test where the data supply no test split.", gt=0, lt=1
    )
    validation_fraction: float = option(
        0.2, "Data", "Share of the rest used for validation where the data supply no validation split.", gt=0, lt=1
    )
    strict: bool = option(
        False, "Data", "Stop at the first image that cannot be read, instead of listing and skipping it."
    )


class BackboneSettings(SettingsGroup):
    """The frozen network."""

    backbone: str = option(
        BUNDLED,
        "Backbone",
        f"The frozen, pretrained network that turns images into features: {BUNDLED} (bundled),"
        f" {', '.join(KERAS_BACKBONES)}, or a Keras model file of your own (.keras, .h5); or"
        " features-D, if the data are ready-made features of width D (.npz).",
    )
    weights: str = option(
        "",
        "Backbone",
        "Weights for a ResNet50/101/152V2: a file (.weights.h5, .h5, .keras) or the prefix of a TensorFlow checkpoint"
        " (default: ImageNet weights through Keras' own cache and download).",
    )
    preprocessing: Literal["auto", "tf", "torch", "caffe", "none"] = option(
        "auto",
        "Backbone",
        "How the weights expect pixels, in Keras' names; auto: as the model file does itself, or else tf, to [-1, 1].",
    )
    resolution: int = option(
        0, "Backbone", "Pixels a side that images are resized to (0: the backbone's own, 64 or 224).", ge=0
    )
    precision: Literal["float32", "bfloat16"] = option(
        "float32",
        "Backbone",
        "Number format inside the backbone; bfloat16 is faster where GPU or CPU have it, and has its own features.",
    )


class FeatureSettings(SettingsGroup):
    """What becomes of its features before a head sees them."""

    standardise: Literal["centre", "none", "public", "federated"] = option(
        "centre",
        "Features",
        "centre: subtract the backbone's public mean, where it has one; public: divide by its public standard deviation"
        " too; federated: by mean and deviation over all sites' training images, from sums that they send.",
    )
    project: Literal["none", "pca", "random"] = option(
        "none",
        "Features",
        "Reduce features to --dimensions: on the principal axes of the backbone's public statistics, or by a seeded"
        " random projection.",
    )
    dimensions: int = option(0, "Features", "Width of projected features (with --project).", ge=0)
    normalise: bool = option(True, "Features", "Scale each feature vector to length 1, after all else.")
    feature_statistics: str = option(
        "",
        "Features",
        "Public statistics of the backbone's features, made by `fedtransfer features statistics` from public images"
        " (default: those that come with the backbone).",
    )
    augment: int = option(
        0, "Features", "Number of augmented views of each training image to store and train on as well.", ge=0
    )
