"""The frozen, pretrained network that every site holds: image in, feature vector out.

Resizing and preprocessing are part of it. The square in the middle of an image is resized to R x R
by antialiased bilinear interpolation, and scaled to [-1, 1] inside the network, as ResNetV2 expects
(He et al. 2016, arXiv 1603.05027).
"""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.backbone import networks
from fedtransfer.common.backbone import public_statistics as public
from fedtransfer.common.backbone.public_statistics import PublicStatistics
from fedtransfer.common.compute import keras, tf, why_no_bfloat16
from fedtransfer.common.config.config import BUNDLED, KERAS_BACKBONES, RunConfig
from fedtransfer.common.config.settings.training import ready_made_width
from fedtransfer.common.errors import UserError

_RESIZE_RULE = "centre square of the shorter side, antialiased bilinear resize, RGB 0 to 255"
# What decides what a layer computes, of its configuration; names and Keras' bookkeeping do not.
_ARCHITECTURE_KEYS = (
    "filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "activation", "use_bias",
    "axis", "epsilon", "pool_size", "units", "scale", "offset", "keepdims",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Backbone:
    """A loaded backbone."""

    name: str  # its name in the run config
    resolution: int  # R, the pixels a side of its input
    # Keras model, ``(n, R, R, 3)`` float32 in 0 to 255 → ``(n, features)`` float32; not trainable.
    network: Any
    # The public mean of its features that comes with it, ``(features,)`` float32, or None.
    mean: NDArray[np.float32] | None
    notes: tuple[str, ...] = ()  # sentences for the user about how it was loaded
    # ``float32`` or ``bfloat16``: the precision of the computation; features are float32 in either
    # case.
    precision: str = "float32"
    # The public statistics of its features that a run uses; None if it uses ``mean`` only.
    statistics: PublicStatistics | None = None

    @property
    def features(self) -> int:
        """Width of a feature vector."""
        return int(self.network.output_shape[-1])

    @property
    def public(self) -> PublicStatistics:
        """The public statistics of its features that are in use."""
        return self.statistics or PublicStatistics(self.mean)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of ``identity`` and the public statistics in use, which sites compare."""
        if self.statistics is None:
            return self.identity
        return hashlib.sha256(self.identity.encode() + self.statistics.digest).hexdigest()

    @cached_property
    def identity(self) -> str:
        """SHA-256 of architecture, weights, preprocessing and ``mean``: 64 hexadecimal digits."""
        state = hashlib.sha256(_RESIZE_RULE.encode())
        state.update(json.dumps(_architecture(self.network), sort_keys=True).encode())
        for weight in self.network.get_weights():
            state.update(f"{weight.dtype.str}{weight.shape}".encode())
            state.update(np.ascontiguousarray(weight).tobytes())
        state.update(b"" if self.mean is None else self.mean.tobytes())
        return state.hexdigest()

    @cached_property
    def _resize(self) -> Any:
        layer = resizing_layer(self.resolution)
        return tf.function(
            layer, input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)], autograph=False
        )

    def resize(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Resize the middle square of decoded images (n, H, W, 3) to (n, R, R, 3) float32."""
        return self._resize(images).numpy()

    def extractor(self, batch: int) -> Any:
        """Return a compiled function of float32, ``(batch, R, R, 3)`` → ``(batch, features)``."""
        return _extractor(self, batch)


@dataclass(frozen=True, eq=False)
class ReadyMade(Backbone):
    """No network at all: sites hold features (width,). Its identity is the hash of its name."""

    width: int = 0

    @property
    def features(self) -> int:
        """Width of a feature vector."""
        return self.width

    @cached_property
    def identity(self) -> str:
        """SHA-256 of the name, which ends in the width."""
        return hashlib.sha256(self.name.encode()).hexdigest()


@lru_cache(maxsize=2)  # for the next site's images, or the next run's
def _extractor(backbone: Backbone, batch: int) -> Any:
    shape = (batch, backbone.resolution, backbone.resolution, 3)
    network = networks.in_bfloat16(backbone.network) if backbone.precision == "bfloat16" else backbone.network
    return tf.function(
        lambda x: tf.cast(network(x, training=False), tf.float32), [tf.TensorSpec(shape)], autograph=False
    )


def resizing_layer(resolution: int) -> Any:
    """Return the Keras layer that resizes images, in the pipeline and in exported models."""
    return keras.layers.Resizing(
        resolution, resolution, "bilinear", crop_to_aspect_ratio=True, antialias=True, name="resize",
        dtype="float32",
    )  # fmt: skip


def configured_backbone(config: RunConfig) -> Backbone:
    """Load the backbone of a run config, with the public statistics that the run uses.

    Raises:
        UserError: the network or the statistics are missing, cannot be read or do not fit.
    """
    backbone = load_backbone(
        config.backbone, config.weights, config.resolution, config.preprocessing, config.precision
    )
    if config.standardise != "public" and config.project != "pca" and not config.feature_statistics:
        return backbone
    return _with_statistics(
        backbone, config.backbone, config.feature_statistics, config.standardise, config.project
    )


@lru_cache(maxsize=2)
def _with_statistics(backbone: Backbone, named: str, file: str, standardise: str, project: str) -> Backbone:
    """Return a backbone with the statistics that a run uses, from ``file`` ("": its default)."""
    source = Path(file).expanduser() if file else public.statistics_file(named)
    arrays = public.read_statistics(source, backbone.features) if source else {}
    if file:
        public.check_origin(arrays, file, backbone.identity, backbone.resolution)
    statistics = public.choose(
        arrays, backbone.name, deviation=standardise == "public", axes=project == "pca",
        standardised=standardise in ("public", "federated"),
    )  # fmt: skip
    return replace(backbone, statistics=statistics)


@lru_cache(maxsize=2)
def load_backbone(
    name: str, weights: str = "", resolution: int = 0, preprocessing: str = "auto", precision: str = "float32"
) -> Backbone:
    """Load a backbone, once per process.

    Args:
        name: the bundled ``resnet18v2-tinyimagenet``, a ResNetV2 of keras.applications, a Keras
            model file, or ``features-D`` for ready-made features.
        weights: for a ResNetV2 of keras.applications, a weights file or TensorFlow checkpoint; ""
            means ImageNet weights.
        resolution: pixels a side, 0 for the backbone's default.
        preprocessing: ``tf``, ``torch``, ``caffe`` or ``none``, whichever the weights expect;
            ``auto`` is ``none`` if the network has preprocessing of its own, else ``tf``.
        precision: ``float32`` or ``bfloat16``.

    Raises:
        UserError: the network or its weights are missing, cannot be read or do not fit.
    """
    if width := ready_made_width(name):
        return ReadyMade(name, 0, None, None, width=width)
    if precision == "bfloat16" and (why := why_no_bfloat16()):
        raise UserError(f"--precision bfloat16 would only lose accuracy here: {why}; leave it at float32")
    statistics = public.statistics_file(name)
    notes: tuple[str, ...] = ()
    if name == BUNDLED:
        network = networks.bundled_network()
    elif name in KERAS_BACKBONES:
        network = networks.keras_network(name, weights, preprocessing)
    else:
        path = Path(name).expanduser()
        network, notes = networks.network_from_file(path, preprocessing)
        name = re.sub(r"[^\w.-]+", "_", Path(name).stem)
    fixed = network.input_shape[1]
    if fixed and resolution not in (0, fixed):
        raise UserError(
            f"backbone {name} takes images of {fixed} x {fixed} only, got --resolution {resolution}"
        )
    resolution = resolution or fixed or (64 if name == BUNDLED else 224)
    networks.check_network(network, name, resolution)
    network.trainable = False
    mean: NDArray[np.float32] | None = None
    if statistics:
        mean = public.read_statistics(statistics, int(network.output_shape[-1]))["mean"]
        if name != BUNDLED:
            notes = (*notes, f"{path.name}: {statistics.name} next to it holds the mean of its features")
    return Backbone(name, resolution, network, mean, notes, precision)


def _architecture(network: Any) -> list[Any]:
    """Describe a functional model by its layers' computations and connections, without names."""
    position = {layer.name: index for index, layer in enumerate(network.layers)}
    layers = []
    for layer in network.layers:
        parents = [parent.operation.name for node in layer._inbound_nodes[:1] for parent in node.parent_nodes]
        config = {key: value for key, value in layer.get_config().items() if key in _ARCHITECTURE_KEYS}
        layers.append([type(layer).__name__, [position[name] for name in parents], config])
    return layers
