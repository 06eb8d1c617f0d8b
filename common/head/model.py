"""The exported model of a run: image in, class probabilities out, in one ``.keras`` file.

Keras alone can load it. Class names and origin are inside the file as ``fedtransfer.json``, and the
head as ``fedtransfer.npz``, which Keras ignores. With them a run's model is used here without
TensorFlow.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import (
    Backbone,
    ReadyMade,
    backbone_of_copy,
    configured_backbone,
    load_backbone,
)
from fedtransfer.common.backbone.compiled import Extractor, copies
from fedtransfer.common.backbone.cut import HEAD
from fedtransfer.common.config.config import RunConfig, read_config
from fedtransfer.common.config.settings.training import onnx_parts, ready_made_width
from fedtransfer.common.data.images import Content, decode, vector
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.feature_map import FeatureMap, feature_map
from fedtransfer.common.head.head import (
    Arrays,
    HeadSpec,
    head_spec,
    load_head,
    load_layer,
    load_moments,
    predict,
)
from fedtransfer.common.head.keras_file import write_keras_file
from fedtransfer.common.support.files import replacement

_CARD, _ARRAYS = "fedtransfer.json", "fedtransfer.npz"
_MAP = ("offset", "scale", "matrix")  # arrays of a feature map


@dataclass(frozen=True, eq=False)
class Classifier:
    """A loaded model.

    Attributes:
        classes: the C class names.
        width: d, if it takes ready-made features only; 0 if it takes images.
        compute: one decoded image (H, W, 3) uint8, or features (d,) float32 → probabilities (C,).
        backbone: its backbone, whose features it takes too; None if Keras computes the model.
    """

    classes: tuple[str, ...]
    width: int
    compute: Any
    backbone: Backbone | None = None

    def read(self, content: Content) -> NDArray[Any]:
        """Decode an image, or read ready-made features. Raises ValueError: it cannot."""
        if self.backbone and not isinstance(content, bytes) and content.ndim == 1:
            return vector(content, self.backbone.features)
        return vector(content, self.width) if self.width else decode(content)

    def predict(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Return the probabilities (C,) of an image (H, W, 3) uint8, or features (d,) float32."""
        probabilities: NDArray[np.float32] = self.compute(image)
        return probabilities


@dataclass(frozen=True, eq=False)
class _Parts:
    """What computes the probabilities of one image: backbone, feature map, head."""

    backbone: Backbone
    mapped: FeatureMap
    head: Arrays
    extract: Extractor | None  # of one image; None for ready-made features

    @classmethod
    def load(cls, backbone: Backbone, mapped: FeatureMap, head: Arrays) -> "_Parts":
        """Load the backbone's network, here and not in the threads that share it."""
        extract = None if isinstance(backbone, ReadyMade) else backbone.extractor(1)
        return cls(backbone, mapped, head, extract)

    def __call__(self, image: NDArray[Any]) -> NDArray[np.float32]:
        features = image[None]
        if image.ndim == 3 and self.extract:
            features = self.extract(self.backbone.resize(features))
        return predict(self.head, self.mapped(features))[0]


def export_models(
    heads: Mapping[Path, Arrays], backbone: Backbone, mapped: FeatureMap, spec: HeadSpec,
    classes: Sequence[str], layer: str = HEAD,
) -> None:  # fmt: skip
    """Write a model with class names for each head, file → arrays from ``layer`` on.

    The files' names, all of which end in ``.keras`` or all in ``.onnx``, say the format. TensorFlow
    is loaded if the backbone is trained too, or for a ``.onnx`` of a Keras network.
    """
    card: dict[str, Any] = {
        "classes": list(classes), "backbone": backbone.name, "resolution": backbone.resolution,
        "fingerprint": backbone.fingerprint, "fit": backbone.fit, "precision": backbone.precision,
        "unit_length": mapped.unit,
    }  # fmt: skip
    ready_made, copy = isinstance(backbone, ReadyMade), backbone.compiled
    if any(path.suffix == ".onnx" for path in heads) and (ready_made or (copy and copy.onnx_file)):
        _export_onnx(heads, backbone, mapped, card)
        return
    if layer != HEAD or not (ready_made or copy) or any(path.suffix == ".onnx" for path in heads):
        _export_by_keras(heads, backbone, mapped, spec, card, layer)
        return
    card["network"] = copy.identity if copy else ""
    arrays = {name: array for name in _MAP if (array := getattr(mapped, name)) is not None}
    for path, head in heads.items():
        stored = BytesIO()
        np.savez(stored, **arrays, **{f"array_{i}": array for i, array in enumerate(head)})  # type: ignore[arg-type]
        with replacement(path, suffix=".keras") as temporary:
            write_keras_file(temporary, backbone, mapped, spec, head)
            _add(temporary, {_CARD: _json(card), _ARRAYS: stored.getvalue()})


def _export_onnx(
    heads: Mapping[Path, Arrays], backbone: Backbone, mapped: FeatureMap, card: Mapping[str, Any]
) -> None:
    from fedtransfer.common.head.onnx_file import add_head, features_model, write_onnx_model

    for path, head in heads.items():
        model = features_model(backbone)
        add_head(model, mapped, head)
        write_onnx_model(path, model, backbone, card)


def _export_by_keras(
    heads: Mapping[Path, Arrays], backbone: Backbone, mapped: FeatureMap, spec: HeadSpec,
    card: Mapping[str, Any], layer: str,
) -> None:  # fmt: skip
    from fedtransfer.common.head.keras_head import build_model

    model, variables = build_model(backbone, mapped, spec, layer)
    for path, head in heads.items():
        for variable, array in zip(variables, head, strict=True):
            variable.assign(array)
        if path.suffix == ".onnx":
            from fedtransfer.common.head.keras_to_onnx import resized_to_probabilities
            from fedtransfer.common.head.onnx_file import write_onnx_model

            write_onnx_model(path, resized_to_probabilities(model), backbone, card)
            continue
        with replacement(path, suffix=".keras") as temporary:
            model.save(temporary)
            _add(temporary, {_CARD: _json(card)})


def refuse_without_converter(config: RunConfig) -> None:
    """Raise UserError: a run's models need tf2onnx, and it is not installed."""
    of_keras = not (onnx_parts(config.backbone) or ready_made_width(config.backbone))
    if of_keras and config.model_file.endswith(".onnx") and find_spec("tf2onnx") is None:
        raise UserError(
            f"export onnx: the backbone {config.backbone} is a Keras network, which tf2onnx converts, and "
            "tf2onnx is not installed; pip install 'fedtransfer[onnx]'"
        )


def _json(card: Mapping[str, Any]) -> bytes:
    return json.dumps(card, ensure_ascii=False, indent=2).encode()


def _add(path: Path, members: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def model_of_head(file: Path, config: RunConfig) -> Path:
    """Return the model of a ``head.npz``, next to it, which is written if it is missing.

    It is a ``model.keras`` or ``model.onnx``; a ``last-head.npz`` has a ``last-model.keras``.

    Raises:
        UserError: the backbone of ``config`` differs from the one that the head was trained on, or
            a ``model.onnx`` of it cannot be made here.
    """
    path = file.with_name(file.name.replace("head.npz", config.model_file))
    if not path.exists():
        refuse_without_converter(config)
        backbone, head, classes, mapped = _read_head(file, config)
        layer = load_layer(file)
        spec = head_spec(config, backbone, len(classes), layer)
        export_models({path: head}, backbone, mapped, spec, classes, layer)
    return path


def _read_head(file: Path, config: RunConfig) -> tuple[Backbone, Arrays, tuple[str, ...], FeatureMap]:
    """Read a head and what is below it. Raises UserError: the backbone is another one now."""
    backbone = configured_backbone(config)
    head, classes, fingerprint = load_head(file)
    if backbone.fingerprint != fingerprint:
        raise UserError(
            f"{file}: the head was trained on backbone {fingerprint[:16]}…, but {config.backbone} is now "
            f"{backbone.fingerprint[:16]}…; bring back the earlier file"
        )
    return backbone, head, classes, feature_map(config, backbone, load_moments(file))


def classifier_of_head(file: Path, config: RunConfig) -> Classifier:
    """Return the model of a ``head.npz``; raises UserError as ``model_of_head``."""
    if load_layer(file) != HEAD:
        return load_model(model_of_head(file, config))
    backbone, head, classes, mapped = _read_head(file, config)
    width = backbone.features if isinstance(backbone, ReadyMade) else 0
    return Classifier(classes, width, _Parts.load(backbone, mapped, head), backbone)


def load_model(path: Path) -> Classifier:
    """Load the model of a run folder, or a ``model.keras`` or ``model.onnx``.

    Raises:
        UserError: there is no model, it is damaged, or its backbone has changed.
    """
    if path.is_dir() and (path / "head.npz").is_file():
        return classifier_of_head(path / "head.npz", read_config(path / "config.toml"))
    file = path
    if path.is_dir():
        file = path / ("model.onnx" if (path / "model.onnx").is_file() else "model.keras")
    if not file.is_file():
        raise UserError(
            f"{file}: no such file; expected a run folder with a finished run's model.keras or model.onnx"
        )
    try:
        if file.suffix == ".onnx":
            from fedtransfer.common.head.onnx_file import OnnxModel

            model = OnnxModel(file)
            return Classifier(model.classes, model.width, model)
        return _by_parts(file) or _by_keras(file)
    except Exception as error:
        raise UserError(
            f"{file}: not a model that fedtransfer exported, or damaged ({type(error).__name__}: {error})"
        ) from None


def _by_parts(file: Path) -> Classifier | None:
    """Load a model whose frozen network has a compiled copy here; None if it has not."""
    with zipfile.ZipFile(file) as archive:
        card = json.loads(archive.read(_CARD))
        if "network" not in card:
            return None
        with np.load(BytesIO(archive.read(_ARRAYS)), allow_pickle=False) as stored:
            arrays = dict(stored)
    head = tuple(arrays[f"array_{i}"] for i in range(len(arrays.keys() - set(_MAP))))
    if not card["network"]:
        backbone = load_backbone(card["backbone"])
    elif copy := next((copy for copy in copies() if copy.identity == card["network"]), None):
        backbone = backbone_of_copy(
            copy, card["backbone"], card["resolution"], card["fit"], card["precision"]
        )
    else:
        return None
    offset, scale, matrix = map(arrays.get, _MAP)
    mapped = FeatureMap(backbone.features, offset, scale, matrix, card["unit_length"])
    width = 0 if card["network"] else backbone.features
    return Classifier(tuple(card["classes"]), width, _Parts.load(backbone, mapped, head), backbone)


def _by_keras(file: Path) -> Classifier:
    """Load a model with Keras."""
    from fedtransfer.common.tensorflow import tf

    network = keras_model(file)
    with zipfile.ZipFile(file) as archive:
        classes = tuple(json.loads(archive.read(_CARD))["classes"])
    shape = network.input_shape
    width = int(shape[-1]) if len(shape) == 2 else 0
    features, image = tf.TensorSpec((width,), tf.float32), tf.TensorSpec((None, None, 3), tf.uint8)
    call = tf.function(
        lambda content: network(tf.cast(content, tf.float32)[None], training=False)[0],
        [features if width else image],
        autograph=False,
    )
    return Classifier(classes, width, lambda content: call(content).numpy())


def keras_model(file: Path) -> Any:
    """Load a ``.keras`` file with Keras."""
    from fedtransfer.common.tensorflow import keras

    return keras.models.load_model(file, compile=False)
