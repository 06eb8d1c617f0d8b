"""Settings of what a site has and does: images, backbone, features, head, and training."""

import re
from pathlib import Path
from typing import Literal

from fedtransfer.common.config.settings.option import SettingsGroup, option
from fedtransfer.common.config.settings.preprocessing import EXAMPLE, MODES

BUNDLED = "resnet18v2-tinyimagenet"
KERAS_BACKBONES = {"resnet50v2": "ResNet50V2", "resnet101v2": "ResNet101V2", "resnet152v2": "ResNet152V2"}
Optimizer = Literal[
    "sgd", "momentum", "nesterov", "adam", "adamw", "adamax", "nadam", "adagrad", "adadelta", "rmsprop",
    "adafactor", "lion", "ftrl",
]  # fmt: skip
READY_MADE = re.compile(r"(?:(?P<name>[\w.-]+)-)?features-(?P<width>[1-9]\d*)(?:@(?P<version>[\w.-]+))?")
_ONNX = re.compile(r"(.+?\.onnx)(?:#(.+))?", re.DOTALL)


def ready_made_width(backbone: str) -> int:
    """Return D of ``[NAME-]features-D[@VERSION]``: sites hold features, no images; else 0."""
    match = READY_MADE.fullmatch(backbone)
    return int(match["width"]) if match else 0


def onnx_parts(backbone: str) -> tuple[Path, str] | None:
    """Return the file and the output of ``FILE.onnx#OUTPUT``; "" for its only one; or None."""
    match = _ONNX.fullmatch(backbone)
    return (Path(match[1]).expanduser(), match[2] or "") if match else None


class DataSettings(SettingsGroup):
    """Which images, and how they are spread over simulated sites."""

    panel = "Data"
    data: str = option("cifar10-demo", min_length=1)
    """A data set by name (cifar10-demo, cifar10, cifar100, fashion-mnist, mnist), a folder with a
    folder a class, a CSV manifest (path,label[,split][,group]), an .npz archive, or a file of
    ready-made features (.npz, .h5, .parquet, .csv)."""
    sites: int = option(10, ge=1, le=100_000)
    """Number of sites (with --partition natural: taken from the data)."""
    unseen_sites: int = option(0, ge=0)
    """Number of simulated sites held out of training; afterwards each adapts the head
    with 1, 5 and 20 images per class."""
    partition: Literal["iid", "dirichlet", "pathological", "natural"] = option("dirichlet")
    """How images are spread over sites; natural: each folder of --data is a site
    with its class folders, or the column site of a features file says so."""
    alpha: float = option(0.3, gt=0)
    """Dirichlet concentration: the smaller, the more the sites differ in classes."""
    classes_per_site: int = option(2, ge=1)
    """Classes at each site (with --partition pathological)."""
    min_images: int = option(10, ge=1)
    """Least number of images a simulated site must get."""
    test_fraction: float = option(0.2, gt=0, lt=1)
    """Share set aside for test where the data supply no test split."""
    validation_fraction: float = option(0.2, gt=0, lt=1)
    """Share of the rest used for validation where the data supply no validation split."""
    strict: bool = option(False)
    """Stop at the first image that cannot be read, instead of listing and skipping it."""


class BackboneSettings(SettingsGroup):
    """The frozen network."""

    panel = "Backbone"
    backbone: str = option(
        BUNDLED,
        description=f"The frozen, pretrained network that turns images into features: {BUNDLED} (bundled),"
        f" {', '.join(KERAS_BACKBONES)}, or a file of your own: a Keras model (.keras, .h5) or a network"
        " in ONNX (FILE.onnx, or FILE.onnx#OUTPUT for one of its outputs or inner tensors); or"
        " features-D, if the data are ready-made features of width D. A features file says which"
        " network made its features, so the backbone follows from it.",
    )
    weights: str = option("")
    """Weights for a ResNet50/101/152V2: a file (.weights.h5, .h5, .keras) or the prefix of a
    TensorFlow checkpoint (default: ImageNet weights through Keras' own cache and download)."""
    preprocessing: str = option(
        "auto", choices=[*MODES, "mean=… std=…"],
        description="How the network expects pixels: one of Keras' names, or mean and deviation of each"
        f" channel for pixels of 0 to 1, as in {EXAMPLE}. auto: as the model file does itself, or else tf"
        " (to [-1, 1]) for Keras and torch for ONNX.",
    )  # fmt: skip
    resolution: int = option(0, ge=0)
    """Pixels a side that images are resized to (0: the backbone's own, 64 or 224)."""
    fit: Literal["crop", "pad", "stretch"] = option("crop")
    """How an image is fitted to the square: crop takes the square in the middle, pad adds black
    bars, stretch gives up the shape."""
    compute: Literal["auto", "openvino", "tensorflow"] = option("auto")
    """What computes features; auto: TensorFlow on a GPU, OpenVINO on a CPU, where it is faster."""
    precision: Literal["float32", "bfloat16"] = option("float32")
    """Number format inside the backbone; bfloat16 is faster where GPU or CPU have it,
    and has its own features."""


class FeatureSettings(SettingsGroup):
    """What becomes of its features before a head sees them."""

    panel = "Features"
    standardise: Literal["centre", "none", "public", "federated"] = option("centre")
    """centre: subtract the backbone's public mean, where it has one; public: divide by its public
    standard deviation too; federated: by mean and deviation over all sites' training images, from
    sums that they send."""
    project: Literal["none", "pca", "random"] = option("none")
    """Reduce features to --dimensions: on the principal axes of the backbone's public statistics,
    or by a seeded random projection."""
    dimensions: int = option(0, ge=0)
    """Width of projected features (with --project)."""
    normalise: bool = option(True)
    """Scale each feature vector to length 1, after all else."""
    feature_statistics: str = option("")
    """Public statistics of the backbone's features, made by `fedtransfer features statistics` from
    public images (default: those that come with the backbone)."""
    augment: int = option(0, ge=0)
    """Number of augmented views of each training image to store and train on as well."""


class HeadSettings(SettingsGroup):
    """What is trained."""

    panel = "Head"
    trainable: str = option("head", min_length=1)
    """What is trained and sent: the head, or all convolutions from a stage or block of the backbone
    on, such as conv5 or conv5_block2. Features are stored where the network is cut."""
    unfreeze_at: str = option("")
    """Gradual unfreezing: ROUND:LAYER, separated by commas, as in 20:conv5_block2,40:conv5; from
    each round on so much more is trained."""
    hidden_units: int = option(0, ge=0)
    """Units of one hidden ReLU layer (0: a single softmax layer)."""
    dropout: float = option(0.0, ge=0, lt=1)
    """Dropout rate on the head's input."""
    l2: float = option(0.0, ge=0)
    """L2 penalty on the head's weights."""


class TrainingSettings(SettingsGroup):
    """How a site trains it."""

    panel = "Training at a site"
    local_epochs: int = option(1, ge=1)
    """Passes over a site's images each round."""
    batch_size: int = option(32, ge=1)
    """Images a step."""
    learning_rate: float = option(4.0, gt=0)
    """Rate of the site's optimizer (Adam and its kin want about 0.001)."""
    backbone_rate: float = option(0.01, gt=0, le=1)
    """Share of that rate at which what is trained of the backbone moves (with --trainable or
    --unfreeze-at)."""
    schedule: Literal["constant", "cosine"] = option("constant")
    """How the rate falls over the rounds; cosine: to a hundredth in the last."""
    optimizer: Optimizer = option("sgd")
    """A Keras optimizer; its state is reset in each round."""
    weight_decay: float = option(0.0, ge=0)
    """Decoupled weight decay: each step shrinks the kernels by rate x this."""
    class_balance: float = option(0.0, ge=0, lt=1)
    """Weigh classes by the inverse of their effective number of images in the federation (Cui et
    al. 2019, beta: 0 is off, towards 1 by inverse frequency; 0.99 to 0.9999 are usual)."""
    patience: int = option(0, ge=0)
    """Stop a site's local epochs when its validation loss has not improved for this many,
    and take its best epoch (0: run all of them)."""
    personal_epochs: int = option(0, ge=0)
    """Number of epochs for which each site fine-tunes the final global head to a personal one. It
    also mixes the global head with one of its own, by its validation images (0: no personal heads;
    reptile and perfedavg: --local-epochs)."""
