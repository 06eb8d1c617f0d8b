"""A decoder trained on public images: from features as heads see them to 32 x 32 pixels.

Features of a frozen backbone are no secret code: whoever has the backbone can train a network that
undoes it, as far as features tell of the image (Dosovitskiy and Brox 2016, arXiv 1506.02753), as
MAUI (arXiv 2509.11451) does to features that were read off updates of heads.

The project's decoder is for the bundled backbone at 64 pixels. ``decoder_training`` says how it
was trained; ``may_be_known`` tells whether an image could have been among those it was trained on.
"""

from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.client.training.trainer import Features
from fedtransfer.common.backbone.backbone import Backbone, ReadyMade
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.images import content_key
from fedtransfer.common.errors import UserError
from fedtransfer.common.tensorflow import keras

Pictures = NDArray[np.uint8]  # (n, 32, 32, 3), RGB

NO_IMAGES = "no image can be rebuilt: the sites hold ready-made features, and no images"
SIDE = 32
WIDTHS = (96, 96, 64, 48)  # channels at 4, 8, 16 and 32 pixels
# First byte of the SHA-256 of an image's content: below, it may be trained on; or validated on.
TRAINING, PUBLIC = 200, 204
_BATCH = 256


def build_decoder(features: int, widths: tuple[int, ...] = WIDTHS) -> Any:
    """Build the network: features of length 1 (n, d) → images (n, 32, 32, 3) in about 0 to 1.

    With its defaults and d = 256 it has 1.0 million parameters.
    """
    vector = keras.Input((features,), name="features")
    x = keras.layers.Rescaling(np.sqrt(features), name="scale")(vector)  # to entries of about 1
    x = keras.layers.Reshape((4, 4, widths[0]), name="pixels")(
        keras.layers.Dense(16 * widths[0], name="dense")(x)
    )
    x = _block(x, widths[0], "block_0")
    for stage, width in enumerate(widths[1:], 1):
        x = keras.layers.UpSampling2D(2, interpolation="nearest", name=f"double_{stage}")(x)
        x = _block(_conv(x, width, f"up_{stage}"), width, f"block_{stage}")
    x = _conv(_normed(x, "norm"), 3, "last")
    return keras.Model(vector, keras.layers.Rescaling(0.5, 0.5, name="image")(x), name="decoder")


def _block(x: Any, width: int, name: str) -> Any:
    inner = _conv(_normed(x, f"{name}_norm_1"), width, f"{name}_conv_1")
    inner = _conv(_normed(inner, f"{name}_norm_2"), width, f"{name}_conv_2", start="zeros")
    return keras.layers.Add(name=f"{name}_add")([x, inner])


def _normed(x: Any, name: str) -> Any:
    normed = keras.layers.GroupNormalization(8, epsilon=1e-5, name=name)(x)
    return keras.layers.Activation("silu", name=f"{name}_silu")(normed)


def _conv(x: Any, width: int, name: str, start: str = "he_uniform") -> Any:
    return keras.layers.Conv2D(width, 3, padding="same", kernel_initializer=start, name=name)(x)


class Decoder:
    """A decoder; ``class_means``: class → mean public image (32, 32, 3) uint8, a guess by class."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            self._backbone, self._resolution = str(file["backbone"]), int(file["resolution"])
            widths = tuple(len(file[f"block_{stage}_norm_1/gamma"]) for stage in range(len(WIDTHS)))
            self._network = build_decoder(len(file["dense/kernel"]), widths)
            for weight in self._network.weights:
                weight.assign(file[weight.path].astype(np.float32))
            classes = map(str, file["classes"])
            self.class_means: dict[str, Pictures] = dict(zip(classes, file["class_means"], strict=True))

    def images(self, features: Features) -> Pictures:
        """Return the images (n, 32, 32, 3) that features (n, d) of length 1 are taken to be of."""
        rows = [features[at : at + _BATCH] for at in range(0, len(features), _BATCH)]
        parts = [self._network(part.astype(np.float32), training=False).numpy() for part in rows]
        return to_uint8(np.concatenate(parts)) if parts else np.empty((0, SIDE, SIDE, 3), np.uint8)

    def check(self, config: RunConfig, backbone: Backbone) -> None:
        """Raise a UserError unless features are such as the decoder was trained on."""
        if isinstance(backbone, ReadyMade):
            raise UserError(NO_IMAGES)
        features = (
            config.standardise,
            config.project,
            config.normalise,
            backbone.resolution,
            backbone.identity,
        )
        if features != ("centre", "none", True, self._resolution, self._backbone):
            raise UserError(
                f"images cannot be rebuilt from features of {backbone.name} at {backbone.resolution} pixels,"
                f" standardise {config.standardise}, project {config.project},"
                f" normalise {str(config.normalise).lower()}: the decoder is for the bundled backbone"
                " at 64 pixels, and features as they are by default"
            )


@lru_cache(maxsize=1)
def bundled_decoder() -> Decoder:
    """Load the decoder that comes with the project, once a process."""
    with as_file(files("fedtransfer.assets") / "decoder-cifar10.npz") as path:
        return Decoder(path)


def to_uint8(images: NDArray[np.float32]) -> Pictures:
    """Return images in 0 to 1 as whole numbers of 0 to 255."""
    return np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8)


def may_be_known(image: NDArray[np.uint8]) -> bool:
    """Tell by an image's content whether the decoder may have been trained or validated on it.

    A federation under audit must have no training image of CIFAR-10 for which this is true.
    """
    key = content_key(image)
    return key[0] < PUBLIC and key not in demo_keys()


@lru_cache(maxsize=1)
def demo_keys() -> frozenset[bytes]:
    """Return the content keys of the demo images, on which the decoder is not trained."""
    with (
        as_file(files("fedtransfer.assets") / "cifar10-demo.npz") as path,
        np.load(path, allow_pickle=False) as file,
    ):
        return frozenset(content_key(image) for name in ("x_train", "x_test") for image in file[name])
