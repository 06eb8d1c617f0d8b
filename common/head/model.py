"""The exported model of a run: image in, class probabilities out, in one ``.keras`` file.

Keras alone can load it. Class names and origin are inside the file as ``fedtransfer.json``, which
Keras ignores.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import Backbone, ReadyMade, configured_backbone, resizing_layer
from fedtransfer.common.backbone.cut import HEAD, cut
from fedtransfer.common.compute import keras, tf
from fedtransfer.common.config.config import RunConfig, read_config
from fedtransfer.common.data.images import Content, decode, vector
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.feature_map import FeatureMap, feature_map
from fedtransfer.common.head.head import (
    Arrays,
    HeadSpec,
    build_above,
    build_head,
    head_spec,
    load_head,
    load_layer,
    load_moments,
)
from fedtransfer.common.support.files import replacement

_CARD = "fedtransfer.json"


@dataclass(frozen=True, eq=False)
class Classifier:
    """A loaded model.

    Attributes:
        network: Keras model, images ``(n, H, W, 3)`` in 0 to 255, or ready-made features ``(n, d)``
            → probabilities ``(n, C)``.
        classes: the C class names.
        card: its origin (backbone, fingerprint, resolution).
    """

    network: Any
    classes: tuple[str, ...]
    card: dict[str, Any]

    @property
    def width(self) -> int:
        """d, if the network takes ready-made features; 0 if it takes images."""
        shape = self.network.input_shape
        return int(shape[-1]) if len(shape) == 2 else 0

    def read(self, content: Content) -> NDArray[Any]:
        """Decode an image, or read ready-made features. Raises ValueError: it cannot."""
        return vector(content, self.width) if self.width else decode(content)

    @cached_property
    def _call(self) -> Any:
        features, image = tf.TensorSpec((self.width,), tf.float32), tf.TensorSpec((None, None, 3), tf.uint8)

        def call(content: Any) -> Any:
            return self.network(tf.cast(content, tf.float32)[None], training=False)[0]

        return tf.function(call, [features if self.width else image], autograph=False)

    def predict(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Return the probabilities (C,) of an image (H, W, 3) uint8, or features (d,) float32."""
        return self._call(image).numpy()


def build_model(
    backbone: Backbone, mapped: FeatureMap, spec: HeadSpec, layer: str = HEAD
) -> tuple[Any, list[Any]]:
    """Join resize, backbone, feature map, head and softmax into one Keras model.

    For ready-made features it begins at the feature map. Return it, and its variables in the order
    of a head's arrays.
    """
    if isinstance(backbone, ReadyMade):
        image = below = keras.Input((backbone.features,), name="features")
    else:
        image = keras.Input((None, None, 3), name="image")
        below = cut(backbone, layer).below.network(resizing_layer(backbone.resolution)(image))
    above, top = build_above(spec), build_head(spec)
    parts = [part for part in (above, top) if part]
    variables = [variable for part in parts for variable in part.trainable_variables]
    features = above(below, training=False) if above else mapped.as_layers(below)
    model = keras.Model(image, keras.layers.Softmax(name="probabilities")(top(features)), name="fedtransfer")
    model.trainable = False
    return model, variables


def export_models(
    heads: Mapping[Path, Arrays], backbone: Backbone, mapped: FeatureMap, spec: HeadSpec,
    classes: Sequence[str], layer: str = HEAD,
) -> None:  # fmt: skip
    """Write a ``.keras`` file with class names for each head, file → arrays from ``layer`` on."""
    model, variables = build_model(backbone, mapped, spec, layer)
    card = {
        "classes": list(classes), "backbone": backbone.name, "resolution": backbone.resolution,
        "fingerprint": backbone.fingerprint,
    }  # fmt: skip
    for path, head in heads.items():
        for variable, array in zip(variables, head, strict=True):
            variable.assign(array)
        with replacement(path, suffix=".keras") as temporary:
            model.save(temporary)
            with zipfile.ZipFile(temporary, "a") as file:
                file.writestr(_CARD, json.dumps(card, ensure_ascii=False, indent=2))


def model_of_head(file: Path, config: RunConfig) -> Path:
    """Return the model of a ``head.npz``: the ``model.keras`` next to it, written if it is missing.

    A ``last-head.npz`` has a ``last-model.keras``.

    Raises:
        UserError: the backbone of ``config`` differs from the one that the head was trained on.
    """
    path = file.with_name(file.name.replace("head.npz", "model.keras"))
    if not path.exists():
        backbone = configured_backbone(config)
        head, classes, fingerprint = load_head(file)
        if backbone.fingerprint != fingerprint:
            raise UserError(
                f"{file}: the head was trained on backbone {fingerprint[:16]}…, but {config.backbone} is now "
                f"{backbone.fingerprint[:16]}…; bring back the earlier file"
            )
        mapped, layer = feature_map(config, backbone, load_moments(file)), load_layer(file)
        spec = head_spec(config, backbone, len(classes), layer)
        export_models({path: head}, backbone, mapped, spec, classes, layer)
    return path


def load_model(path: Path) -> Classifier:
    """Load the model of a run folder, or a ``model.keras``; a missing model is made from the head.

    Raises:
        UserError: there is no model, it is damaged, or its backbone has changed.
    """
    file = path / "model.keras" if path.is_dir() else path
    if path.is_dir() and not file.exists() and (path / "head.npz").is_file():
        file = model_of_head(path / "head.npz", read_config(path / "config.toml"))
    if not file.is_file():
        raise UserError(f"{file}: no such file; expected a run folder with a finished run's model.keras")
    try:
        with zipfile.ZipFile(file) as archive:
            card = json.loads(archive.read(_CARD))
        return Classifier(keras.models.load_model(file, compile=False), tuple(card["classes"]), card)
    except Exception as error:
        raise UserError(
            f"{file}: not a model that fedtransfer exported, or damaged ({type(error).__name__}: {error})"
        ) from None
