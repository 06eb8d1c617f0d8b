"""The head, and the trained part of the backbone below it, as Keras models; Keras' optimizers."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from fedtransfer.common.backbone.backbone import Backbone, ReadyMade
from fedtransfer.common.backbone.cut import HEAD, cut
from fedtransfer.common.features.feature_map import FeatureMap
from fedtransfer.common.head.head import HeadSpec
from fedtransfer.common.tensorflow import keras

# Keras' ``Resizing`` for each fit; ``fedtransfer.common.backbone.resizing`` does the same.
_FITS: dict[str, dict[str, bool]] = {
    "crop": {"crop_to_aspect_ratio": True},
    "pad": {"pad_to_aspect_ratio": True},
    "stretch": {},
}


def build_head(spec: HeadSpec) -> Any:
    """Build the head as a Keras model, (n, d) float32 → (n, C) class scores before the softmax."""
    layers: list[Any] = [keras.Input((spec.features,), name="features")]
    if spec.dropout:
        layers.append(keras.layers.Dropout(spec.dropout, seed=0, name="dropout"))
    dense = partial(keras.layers.Dense, kernel_regularizer=_penalty(spec))
    if spec.hidden_units:
        layers.append(dense(spec.hidden_units, "relu", name="hidden"))
    layers.append(dense(spec.classes, kernel_initializer="zeros", name="scores"))
    return keras.Sequential(layers, name="head")


def _penalty(spec: HeadSpec) -> Any:
    return keras.regularizers.L2(spec.l2) if spec.l2 else None


def build_above(spec: HeadSpec) -> Any:
    """Build the trained part below the head, (n, w) float32 at the cut → features (n, d), or None.

    Call it with ``training=False``: all of it runs in inference mode.
    """
    if not spec.above:
        return None
    model = spec.above.build()
    if spec.feature_map:
        model = keras.Model(model.input, map_layers(spec.feature_map, model.output), name="above")
    for variable in model.trainable_variables:
        variable.regularizer = _penalty(spec) if variable.name.endswith("kernel") else None
    return model


def map_layers(mapped: FeatureMap, features: Any) -> Any:
    """Map a Keras tensor of raw features (n, d), by Keras layers that are not trained."""
    if mapped.offset is not None:
        features = keras.layers.Rescaling(1.0, offset=(-mapped.offset).tolist(), name="centre")(features)
    if mapped.scale is not None:
        features = keras.layers.Rescaling(mapped.scale.tolist(), name="standardise")(features)
    if mapped.matrix is not None:
        project = keras.layers.Dense(mapped.width, use_bias=False, trainable=False, name="project")
        features = project(features)
        project.set_weights([mapped.matrix])
    return keras.layers.UnitNormalization(name="unit_length")(features) if mapped.unit else features


def resizing_layer(resolution: int, fit: str = "crop") -> Any:
    """Return the Keras layer that fits and resizes images, with which exported models begin."""
    return keras.layers.Resizing(
        resolution, resolution, "bilinear", antialias=True, name="resize", dtype="float32", **_FITS[fit]
    )


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
        below = cut(backbone, layer).below.network(resizing_layer(backbone.resolution, backbone.fit)(image))
    above, top = build_above(spec), build_head(spec)
    parts = [part for part in (above, top) if part]
    variables = [variable for part in parts for variable in part.trainable_variables]
    features = above(below, training=False) if above else map_layers(mapped, below)
    model = keras.Model(image, keras.layers.Softmax(name="probabilities")(top(features)), name="fedtransfer")
    model.trainable = False
    return model, variables


def make_optimizer(
    name: str, learning_rate: float, variables: Sequence[Any], weight_decay: float = 0.0
) -> Any:
    """Build a Keras optimizer by its name in the config; ``momentum``, ``nesterov``: SGD with 0.9.

    ``weight_decay`` is λ of decoupled weight decay, w ← w - rate · λ · w at each step, on kernels
    and not on biases. 0 keeps Keras' default: none, but 0.004 for ``adamw``.
    """
    settings: dict[str, Any] = {"learning_rate": learning_rate}
    if weight_decay:
        settings["weight_decay"] = weight_decay
    if name in ("momentum", "nesterov"):
        settings |= {"momentum": 0.9, "nesterov": name == "nesterov"}
        name = "sgd"
    optimizer = keras.optimizers.get({"class_name": name, "config": settings})
    optimizer.exclude_from_weight_decay([variable for variable in variables if len(variable.shape) < 2])
    optimizer.build(list(variables))
    return optimizer
