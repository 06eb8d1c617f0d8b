"""The frozen, pretrained network that every site holds: image in, feature vector out.

Fitting, resizing and preprocessing are part of it. By default the square in the middle of an image
is resized to R x R by antialiased bilinear interpolation, and scaled to [-1, 1] inside the network,
as ResNetV2 expects (He et al. 2016, arXiv 1603.05027).
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.backbone import compiled as copies
from fedtransfer.common.backbone import public_statistics as public
from fedtransfer.common.backbone.compiled import Compiled, Extractor
from fedtransfer.common.backbone.origin import origin
from fedtransfer.common.backbone.public_statistics import PublicStatistics
from fedtransfer.common.backbone.resizing import RULES, resize
from fedtransfer.common.compute import OPENVINO, TENSORFLOW, engine_of, why_no_bfloat16
from fedtransfer.common.config.config import BUNDLED, KERAS_BACKBONES, RunConfig
from fedtransfer.common.config.settings.training import onnx_parts
from fedtransfer.common.data.feature_card import card_of
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.processes import CORES


@dataclass(frozen=True, eq=False)
class Backbone:
    """A backbone. Its network is loaded when something computes with it."""

    name: str  # its name in the run config
    resolution: int  # R, the pixels a side of its input
    features: int  # d, the width of a feature vector
    # SHA-256 of architecture, weights, preprocessing, fit and ``mean``: 64 hexadecimal digits.
    identity: str
    # The public mean of its features that comes with it, ``(features,)`` float32, or None.
    mean: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()  # sentences for the user about how it was loaded
    # ``float32`` or ``bfloat16``: the precision of the computation; features are float32 in either
    # case.
    precision: str = "float32"
    fit: str = "crop"  # how an image is fitted to the square: ``crop``, ``pad`` or ``stretch``
    engine: str = TENSORFLOW  # what computes its features: ``openvino`` or ``tensorflow``
    # Whether an image is computed alone, because its features depend on its neighbours otherwise.
    alone: bool = False
    # The public statistics of its features that a run uses; None if it uses ``mean`` only.
    statistics: PublicStatistics | None = None
    compiled: Compiled | None = None  # the copy that OpenVINO reads
    load: Callable[[], Any] | None = None  # loads the Keras network

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
    def network(self) -> Any:
        """Keras model, (n, R, R, 3) float32 in 0 to 255 → (n, d) float32; loads TensorFlow."""
        assert self.load
        return self.load()

    def resize(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Fit and resize decoded images of one size (n, H, W, 3) to (n, R, R, 3) float32."""
        return resize(images, self.resolution, self.fit)

    def extractor(self, batch: int, streams: int = CORES) -> Extractor:
        """Return a compiled function of float32, ``(batch, R, R, 3)`` → ``(batch, features)``.

        Args:
            batch: the number of images in a call; 1 gives the same as any other, to rounding.
            streams: the number of threads that may call it at a time.
        """
        if self.engine == OPENVINO:
            from fedtransfer.common.backbone.openvino import extractor

            assert self.compiled
            return extractor(self.compiled.network, batch, self.resolution, self.precision, streams)
        from fedtransfer.common.backbone import networks

        return networks.extractor(self.network, batch, self.resolution, self.precision)


@dataclass(frozen=True, eq=False)
class ReadyMade(Backbone):
    """No network at all: sites hold features (features,).

    Its identity is the SHA-256 in its name, which is that of the network which made them; if the
    name has none, the hash of the name.
    """


def backbone_of_network(
    name: str, resolution: int, network: Any, mean: NDArray[np.float32] | None = None
) -> Backbone:
    """Return a backbone of a Keras network that is in memory; TensorFlow computes its features."""
    from fedtransfer.common.backbone.networks import network_identity

    identity, features = network_identity(network, mean), int(network.output_shape[-1])
    return Backbone(name, resolution, features, identity, mean, load=lambda: network)


def configured_backbone(config: RunConfig) -> Backbone:
    """Load the backbone of a run config, with the public statistics that the run uses.

    Raises:
        UserError: the network or the statistics are missing, cannot be read or do not fit.
    """
    backbone = load_backbone(
        config.backbone, config.weights, config.resolution, config.preprocessing, config.precision,
        config.fit, config.compute,
    )  # fmt: skip
    if config.dp == "image" and backbone.engine == TENSORFLOW:
        backbone = _alone(backbone)
    if config.standardise != "public" and config.project != "pca" and not config.feature_statistics:
        return backbone
    return _with_statistics(
        backbone, config.backbone, config.feature_statistics, config.standardise, config.project
    )


@lru_cache(maxsize=2)
def _alone(backbone: Backbone) -> Backbone:
    note = (
        "TensorFlow computes each image by itself under --dp image: in a batch, an image changes the last "
        "bits of others' features; --compute openvino is faster and has no such effect"
    )
    return replace(backbone, alone=True, notes=(*backbone.notes, note))


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
    name: str, weights: str = "", resolution: int = 0, preprocessing: str = "auto",
    precision: str = "float32", fit: str = "crop", compute: str = "auto",
) -> Backbone:  # fmt: skip
    """Load what a run needs to know of a backbone, once per process.

    The first time that a Keras file is read, TensorFlow is loaded, and a compiled copy is cached.

    Args:
        name: the bundled ``resnet18v2-tinyimagenet``, a ResNetV2 of keras.applications, a Keras
            model file, ``FILE.onnx`` or ``FILE.onnx#OUTPUT``, or ``[NAME-]features-D[@HASH]`` for
            ready-made features.
        weights: for a ResNetV2 of keras.applications, a weights file or TensorFlow checkpoint; ""
            means ImageNet weights.
        resolution: pixels a side, 0 for the backbone's default.
        preprocessing: ``tf``, ``torch``, ``caffe``, ``none``, or ``mean=… std=…``, whichever the
            weights expect; ``auto`` is ``none`` if a Keras network has preprocessing of its own,
            else ``tf``, and ``torch`` for ONNX.
        precision: ``float32`` or ``bfloat16``.
        fit: how an image is fitted to the square: ``crop``, ``pad`` or ``stretch``.
        compute: ``openvino``, ``tensorflow``, or ``auto`` for what suits this machine.

    Raises:
        UserError: the network or its weights are missing, cannot be read or do not fit.
    """
    if card := card_of(name):
        return ReadyMade(name, 0, card.width, card.sha256 or hashlib.sha256(name.encode()).hexdigest())
    if precision == "bfloat16" and (why := why_no_bfloat16(engine_of(compute))):
        raise UserError(f"--precision bfloat16 would only lose accuracy here: {why}; leave it at float32")
    if name == BUNDLED:
        copy, label = copies.bundled(), name
    else:
        copy, label = _copy_of(name, weights, resolution, preprocessing)
    if copy.fixed and resolution not in (0, copy.fixed):
        raise UserError(
            f"backbone {label} takes images of {copy.fixed} x {copy.fixed} only, "
            f"got --resolution {resolution}"
        )
    resolution = resolution or copy.fixed or _usual_resolution(name)
    backbone = backbone_of_copy(copy, label, resolution, fit, precision, compute)
    return replace(backbone, mean=public.public_mean(name, copy.features))


def backbone_of_copy(
    copy: Compiled, name: str, resolution: int, fit: str, precision: str, compute: str = "auto"
) -> Backbone:
    """Return the backbone of a compiled copy, without its public statistics.

    Raises:
        UserError: ``compute`` insists on OpenVINO, and OpenVINO cannot compute the network.
    """
    engine, notes, identity = engine_of(compute), copy.notes, copy.identity
    if copy.onnx_file:
        if compute == TENSORFLOW:
            raise UserError(
                f"--compute tensorflow: it cannot compute {name}, which is ONNX; leave it at auto"
            )
        engine = OPENVINO
    if engine == OPENVINO and copy.refusal:
        if compute == OPENVINO:
            raise UserError(f"--compute openvino: it cannot compute {name}: {copy.refusal}")
        engine, notes = TENSORFLOW, (*notes, f"OpenVINO cannot compute it ({copy.refusal}); TensorFlow does")
    if fit != "crop":
        identity = hashlib.sha256(f"{identity}{RULES[fit]}".encode()).hexdigest()
    return Backbone(
        name, resolution, copy.features, identity, None, notes, precision, fit, engine,
        copy.alone, compiled=copy, load=lambda: _keras_network(copy, name),
    )  # fmt: skip


def _usual_resolution(name: str) -> int:
    return 64 if name == BUNDLED else 224


def _keras_network(copy: Compiled, name: str) -> Any:
    if copy.onnx_file:
        raise UserError(f"{name} is ONNX, and only a Keras network is trained; train the head alone")
    from fedtransfer.common.backbone.networks import saved_network

    return saved_network(copy.keras_file)


def _copy_of(name: str, weights: str, resolution: int, preprocessing: str) -> tuple[Compiled, str]:
    """Return the compiled copy of a network that is read from files, and its name for people."""
    path = parts[0] if (parts := onnx_parts(name)) else Path(name)
    label = name if name in KERAS_BACKBONES else re.sub(r"[^\w.-]+", "_", path.stem)

    def find() -> tuple[Compiled | None, str]:
        statistics = public.statistics_file(name)  # its mean is part of the identity
        files = origin(name, weights)
        if files is None:
            return None, ""
        sources = [*files, *([Path(str(statistics))] if statistics else [])]
        part = name if name in KERAS_BACKBONES else (onnx_parts(name) or ("", ""))[1]
        key = copies.digest(sources, part, preprocessing, resolution)
        return copies.cached(label, key), key

    copy, key = find()
    if copy:
        return copy, label
    if parts := onnx_parts(name):
        return _onnx_copy(label, key, *parts, preprocessing, resolution), label
    from fedtransfer.common.backbone.conversion import write_network
    from fedtransfer.common.backbone.networks import check_network, network_identity, read_network

    network, notes = read_network(name, weights, preprocessing)
    pixels = network.input_shape[1] or resolution or _usual_resolution(name)
    check_network(network, label, pixels)
    mean = public.public_mean(name, int(network.output_shape[-1]))
    if statistics := public.statistics_file(name):
        notes = (*notes, f"{Path(name).name}: {statistics.name} next to it holds the mean of its features")
    identity = network_identity(network, mean)
    _, key = find()  # again: Keras may have downloaded the weights now
    return copies.cache(
        label, key, lambda folder: write_network(network, pixels, identity, notes, folder)
    ), label


def _onnx_copy(
    label: str, key: str, file: Path, output: str, preprocessing: str, resolution: int
) -> Compiled:
    """Make the compiled copy of a network in ONNX, which needs no TensorFlow."""
    from fedtransfer.common.backbone.onnx_network import read_network, write_network

    pixels = resolution or 224
    network = read_network(file, output, preprocessing, pixels)
    pixels = network.fixed or pixels
    identity = network.identity(public.public_mean(str(file), network.features))
    return copies.cache(label, key, lambda folder: write_network(network, label, pixels, identity, folder))
