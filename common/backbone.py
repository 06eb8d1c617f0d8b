"""The frozen, pretrained network that every site holds: image in, feature vector out.

Resizing and preprocessing are part of it: an image's shorter side is cut to the square in its middle, resized to
R x R by antialiased bilinear interpolation, and scaled to [-1, 1] inside the network, as ResNetV2 expects
(He et al. 2016, arXiv 1603.05027).
"""

import hashlib
import json
import warnings
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.compute import keras, tf
from common.errors import UserError

BUNDLED = "resnet18v2-tinyimagenet"
_KERAS_BUILDERS = {"resnet50v2": "ResNet50V2", "resnet101v2": "ResNet101V2", "resnet152v2": "ResNet152V2"}
_RESIZE_RULE = "centre square of the shorter side, antialiased bilinear resize, RGB 0 to 255"
# What of a layer's configuration decides what it computes; names and Keras' own bookkeeping do not.
_ARCHITECTURE_KEYS = (
    "filters",
    "kernel_size",
    "strides",
    "padding",
    "dilation_rate",
    "groups",
    "activation",
    "use_bias",
    "axis",
    "epsilon",
    "pool_size",
    "units",
    "scale",
    "offset",
    "keepdims",
)


@dataclass(frozen=True, eq=False)
class Backbone:
    """A loaded backbone.

    Attributes:
        name: its name, as the run config has it.
        resolution: pixels a side that it sees.
        network: Keras model, ``(n, R, R, 3)`` float32 in 0 to 255 → ``(n, features)`` float32; not trainable.
        mean: the public mean of its features over its source data, ``(features,)`` float32, or None.
    """

    name: str
    resolution: int
    network: Any
    mean: NDArray[np.float32] | None

    @property
    def features(self) -> int:
        """Width of a feature vector."""
        return int(self.network.output_shape[-1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of architecture, weights and preprocessing (64 hexadecimal digits). Sites compare it."""
        state = hashlib.sha256(_RESIZE_RULE.encode())
        state.update(json.dumps(_architecture(self.network), sort_keys=True).encode())
        for weight in self.network.get_weights():
            state.update(f"{weight.dtype.str}{weight.shape}".encode() + np.ascontiguousarray(weight).tobytes())
        state.update(b"" if self.mean is None else self.mean.tobytes())
        return state.hexdigest()

    @cached_property
    def _resize(self) -> Any:
        layer = resizing_layer(self.resolution)
        return tf.function(
            lambda image: layer(image[None])[0],
            input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)],
            autograph=False,
        )

    def resize(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Resize one decoded image (H, W, 3) to (R, R, 3) float32, by the rule above."""
        return self._resize(image).numpy()

    def extractor(self, batch: int) -> Any:
        """Return a compiled function from ``(batch, R, R, 3)`` float32 to ``(batch, features)`` float32."""
        shape = (batch, self.resolution, self.resolution, 3)
        return tf.function(
            lambda x: self.network(x, training=False), input_signature=[tf.TensorSpec(shape)], autograph=False
        )


def resizing_layer(resolution: int) -> Any:
    """Return the resize of the pipeline as a Keras layer, for whole images and exported models alike."""
    return keras.layers.Resizing(
        resolution, resolution, "bilinear", crop_to_aspect_ratio=True, antialias=True, name="resize", dtype="float32"
    )


@lru_cache(maxsize=2)
def load_backbone(name: str, weights: str = "", resolution: int = 0) -> Backbone:
    """Load a backbone once a process.

    Args:
        name: ``resnet18v2-tinyimagenet`` (bundled), ``resnet50v2``, ``resnet101v2`` or ``resnet152v2``.
        weights: for the latter three, a weights file saved by Keras; "" means ImageNet weights.
        resolution: pixels a side, 0 for the backbone's own.

    Raises:
        UserError: the weights are not there, cannot be downloaded or do not fit.
    """
    if name == BUNDLED:
        folder = files("fedtransfer_assets")
        with as_file(folder / f"{BUNDLED}.keras") as file:
            network = keras.models.load_model(file, compile=False)
        with as_file(folder / f"{BUNDLED}.feature-statistics.npz") as file:
            mean = np.load(file)["mean"].astype(np.float32)
        backbone = Backbone(name, resolution or 64, network, mean)
    else:
        backbone = Backbone(name, resolution or 224, _imagenet_network(name, weights), None)
    backbone.network.trainable = False
    return backbone


def _imagenet_network(name: str, weights: str) -> Any:
    image = keras.Input((None, None, 3), name="image")
    scaled = keras.layers.Rescaling(1 / 127.5, -1.0, name="preprocess")(image)
    build = getattr(keras.applications, _KERAS_BUILDERS[name])
    network = keras.Model(image, build(include_top=False, weights=None, input_tensor=scaled, pooling="avg").output)
    path = Path(weights).expanduser() if weights else _imagenet_weights(name)
    if not path.is_file():
        raise UserError(
            f"--weights {path}: no such file; expected a {name} weights file without its top, as saved by Keras' save_weights"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Keras only warns of layers that the file has no weights for
            network.load_weights(path)
    except Exception as error:
        raise UserError(
            f"{path}: not weights of {name} without its classification top: {str(error).splitlines()[0]}"
        ) from None
    return network


def _imagenet_weights(name: str) -> Path:
    """Return the ImageNet weights file from Keras' cache, downloading it the first time."""
    from keras.src.applications import resnet
    from keras.src.backend.config import keras_home

    file = f"{name}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    folder = Path(keras_home()) / "models"
    try:
        return Path(
            keras.utils.get_file(
                file, resnet.BASE_WEIGHTS_PATH + file, cache_subdir="models", file_hash=resnet.WEIGHTS_HASHES[name][1]
            )
        )
    except Exception as error:
        raise UserError(
            f"{name}: the ImageNet weights are not on this machine and could not be downloaded ({type(error).__name__}).\n"
            f"Keras wants the file {file} and looks for it in {folder}.\n"
            f"Fetch it on a machine with a network from {resnet.BASE_WEIGHTS_PATH}{file} and put it there, or name it with --weights FILE."
        ) from None


def _architecture(network: Any) -> list[Any]:
    """Describe a functional model by what its layers compute and how they are joined, without any names."""
    position = {layer.name: index for index, layer in enumerate(network.layers)}
    layers = []
    for layer in network.layers:
        config = layer.get_config()
        parents = [position[parent.operation.name] for node in layer._inbound_nodes[:1] for parent in node.parent_nodes]
        layers.append(
            [type(layer).__name__, parents, {key: config[key] for key in _ARCHITECTURE_KEYS if key in config}]
        )
    return layers
