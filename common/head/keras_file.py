"""Write an exported model as a ``.keras`` file without loading Keras, which takes seconds.

The file is what Keras 3 would save of ``fedtransfer.common.head.keras_head.build_model``; a test
compares the two. The frozen network in it comes from the backbone's compiled copy as it is.
"""

import io
import json
import time
import zipfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import Backbone
from fedtransfer.common.features.feature_map import FeatureMap
from fedtransfer.common.head.head import Arrays, HeadSpec

Json = dict[str, Any]
_FUNCTIONAL = {
    "module": "keras.src.models.functional",
    "class_name": "Functional",
    "registered_name": "Functional",
}
_FLOAT32 = {
    "module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None
}  # fmt: skip


def write_keras_file(
    path: Path, backbone: Backbone, mapped: FeatureMap, spec: HeadSpec, head: Arrays
) -> None:
    """Write a model: resize, backbone, feature map, head and softmax; or without the first two.

    Args:
        backbone: one with a compiled copy, or none at all for ready-made features.
        mapped, spec, head: the feature map, and the head's shape and arrays.
    """
    chain, weights = _Chain(), io.BytesIO()
    with h5py.File(weights, "w") as file:
        if backbone.compiled:
            _add_network(chain, backbone, file)
        else:
            chain.input("features", [None, backbone.features])
        _add_map(chain, mapped, file)
        _add_head(chain, spec, head, file)
    model = {
        **_FUNCTIONAL,
        "config": {
            "name": "fedtransfer", "trainable": False, "layers": chain.layers,
            "input_layers": [chain.layers[0]["name"], 0, 0], "output_layers": ["probabilities", 0, 0],
        },
        "build_config": {"input_shape": None}, "compile_config": {},
    }  # fmt: skip
    metadata = {"keras_version": version("keras"), "date_saved": time.strftime("%Y-%m-%d@%H:%M:%S")}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps(metadata))
        archive.writestr("config.json", json.dumps(model))
        archive.writestr("model.weights.h5", weights.getbuffer())


class _Chain:
    """Layers one after the other, in Keras' JSON."""

    def __init__(self) -> None:
        self.layers: list[Json] = []
        self.shape: list[int | None] = []  # of the last layer's output

    def input(self, name: str, shape: list[int | None]) -> None:
        """Begin with an input."""
        self.layers.append(_input(name, shape))
        self.shape = shape

    def add(self, class_name: str, name: str, config: Json, output: list[int | None]) -> None:
        """Append one of Keras' layers."""
        layer = {
            **_layer(class_name, name, config, self.shape), "name": name, "inbound_nodes": [self._call({})]
        }  # fmt: skip
        self.layers.append(layer)
        self.shape = output

    def add_model(self, model: Json, output: list[int | None]) -> None:
        """Append a whole model."""
        name = model["config"]["name"]
        self.layers.append({**model, "name": name, "inbound_nodes": [self._call({"mask": None})]})
        self.shape = output

    def _call(self, options: Json) -> Json:
        history = [self.layers[-1]["name"], 0, 0]
        tensor = {"shape": self.shape, "dtype": "float32", "keras_history": history}
        return {"args": [{"class_name": "__keras_tensor__", "config": tensor}], "kwargs": options}


def _layer(class_name: str, name: str, config: Json, before: list[int | None]) -> Json:
    return {
        "module": "keras.layers", "class_name": class_name, "registered_name": None,
        "config": {"name": name, "trainable": False, "dtype": _FLOAT32, **config},
        "build_config": {"input_shape": before},
    }  # fmt: skip


def _input(name: str, shape: list[int | None]) -> Json:
    config = {
        "batch_shape": shape, "dtype": "float32", "sparse": False, "ragged": False, "name": name,
        "optional": False,
    }  # fmt: skip
    layer = {"module": "keras.layers", "class_name": "InputLayer", "config": config, "registered_name": None}
    return {**layer, "name": name, "inbound_nodes": []}


def _add_network(chain: _Chain, backbone: Backbone, file: h5py.File) -> None:
    """Append the resizing layer and the frozen network."""
    assert backbone.compiled
    side, fit = backbone.resolution, backbone.fit
    chain.input("image", [None, None, None, 3])
    resize = {
        "data_format": "channels_last", "height": side, "width": side, "interpolation": "bilinear",
        "crop_to_aspect_ratio": fit == "crop", "pad_to_aspect_ratio": fit == "pad",
        "fill_mode": "constant", "fill_value": 0.0, "antialias": True,
    }  # fmt: skip
    chain.add("Resizing", "resize", resize, [None, side, side, 3])
    with zipfile.ZipFile(backbone.compiled.keras_file) as archive:
        network = json.loads(archive.read("config.json"))
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
            weights.copy(weights["layers"], file.create_group("layers/functional"), "layers")
    chain.add_model(_frozen(network), [None, backbone.features])


def _frozen(config: Any) -> Any:
    """Return a model's JSON in which nothing is trainable."""
    if isinstance(config, dict):
        return {key: False if key == "trainable" else _frozen(value) for key, value in config.items()}
    return [_frozen(item) for item in config] if isinstance(config, list) else config


def _add_map(chain: _Chain, mapped: FeatureMap, file: h5py.File) -> None:
    width: list[int | None] = [None, mapped.features]
    if mapped.offset is not None:
        chain.add("Rescaling", "centre", {"scale": 1.0, "offset": (-mapped.offset).tolist()}, width)
    if mapped.scale is not None:
        chain.add("Rescaling", "standardise", {"scale": mapped.scale.tolist(), "offset": 0.0}, width)
    if mapped.matrix is not None:
        width = [None, mapped.width]
        chain.add("Dense", "project", _dense(mapped.width, "linear", bias=False), width)
        _set_weights(file, "layers/dense", [mapped.matrix])
    if mapped.unit:
        chain.add("UnitNormalization", "unit_length", {"axis": -1}, width)


def _add_head(chain: _Chain, spec: HeadSpec, head: Arrays, file: h5py.File) -> None:
    before: list[int | None] = [None, spec.features]
    layers = [{key: value for key, value in _input("features", before).items() if key != "inbound_nodes"}]
    del layers[0]["name"]
    if spec.dropout:
        dropout = {"rate": spec.dropout, "seed": 0, "noise_shape": None}
        layers.append(_layer("Dropout", "dropout", dropout, before))
    units = [("hidden", spec.hidden_units, "relu")] * bool(spec.hidden_units)
    for i, (name, width, activation) in enumerate([*units, ("scores", spec.classes, "linear")]):
        layers.append(_layer("Dense", name, _dense(width, activation), before))
        place = f"layers/sequential/layers/dense{f'_{i}' if i else ''}"
        _set_weights(file, place, head[2 * i : 2 * i + 2])
        before = [None, width]
    config = {
        "name": "head", "trainable": False, "dtype": _FLOAT32, "layers": layers,
        "build_input_shape": [None, spec.features],
    }  # fmt: skip
    sequential = {
        "module": "keras", "class_name": "Sequential", "config": config, "registered_name": None,
        "build_config": {"input_shape": [None, spec.features]}, "compile_config": {},
    }  # fmt: skip
    chain.add_model(sequential, before)
    chain.add("Softmax", "probabilities", {"axis": -1}, before)


def _dense(units: int, activation: str, *, bias: bool = True) -> Json:
    """Return a dense layer's configuration; with weights, initializers play no part."""
    return {"units": units, "activation": activation, "use_bias": bias}


def _set_weights(file: h5py.File, place: str, arrays: Sequence[NDArray[Any]]) -> None:
    group = file.require_group(f"{place}/vars")
    for i, array in enumerate(arrays):
        group[str(i)] = np.asarray(array, np.float32)
