"""Write an exported model as ``model.onnx``, and load one: image in, class probabilities out.

Any program that computes ONNX can use it. Class names and origin are in its metadata, as
``classes`` and ``fedtransfer``, both in JSON.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from fedtransfer.common.backbone.backbone import Backbone
from fedtransfer.common.backbone.onnx_graph import Nodes, add_around, save, set_ends
from fedtransfer.common.backbone.onnx_resizing import OPSET, add_resizing
from fedtransfer.common.backbone.openvino import CORE, function_of
from fedtransfer.common.backbone.resizing import resize
from fedtransfer.common.features.feature_map import FeatureMap
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.support.files import replacement

_PREFIX = "fedtransfer.model/"
_NEW_OPSET, _NEW_IR = 17, 8  # of a model without a network, for ready-made features
_IMAGE, _PIXELS, _FEATURES, _PROBABILITIES = "image", "pixels", "features", "probabilities"


def features_model(backbone: Backbone) -> ModelProto:
    """Return the graph below the feature map: the backbone's network, or none at all."""
    if backbone.compiled and backbone.compiled.onnx_file:
        return onnx.load(backbone.compiled.onnx_file)
    features = helper.make_tensor_value_info(_FEATURES, TensorProto.FLOAT, ["n", backbone.features])
    graph = helper.make_graph([], "fedtransfer", [features], [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _NEW_OPSET)], ir_version=_NEW_IR)


def add_head(model: ModelProto, mapped: FeatureMap, head: Arrays) -> None:
    """Put feature map, head and softmax above ``features`` in place."""
    nodes, x = Nodes(f"{_PREFIX}head/"), _FEATURES
    if mapped.offset is not None:
        x = nodes.add("Sub", x, nodes.constant(mapped.offset))
    if mapped.scale is not None:
        x = nodes.add("Mul", x, nodes.constant(mapped.scale))
    if mapped.matrix is not None:
        x = nodes.add("MatMul", x, nodes.constant(mapped.matrix))
    if mapped.unit:
        ones = nodes.constant(np.ones((mapped.width, 1)))
        length = nodes.add("Sqrt", nodes.add("MatMul", nodes.add("Mul", x, x), ones))
        x = nodes.add("Div", x, nodes.add("Max", length, nodes.constant(1e-12)))
    for at in range(0, len(head), 2):
        x = nodes.add("Relu", x) if at else x
        x = nodes.add("Add", nodes.add("MatMul", x, nodes.constant(head[at])), nodes.constant(head[at + 1]))
    nodes.add("Softmax", x, axis=1, output=_PROBABILITIES)
    add_around(model.graph, Nodes(_PREFIX), nodes)
    name, shape = _input(model)
    set_ends(model, name, shape, _PROBABILITIES, [shape[0], head[-1].size])


def write_onnx_model(path: Path, model: ModelProto, backbone: Backbone, card: Mapping[str, Any]) -> None:
    """Put the resizing below ``pixels``, if there are any, and write a model with its card.

    A network in operators before version 11, which cannot resize, takes resized images.
    """
    [opset] = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
    name, shape = _input(model)
    if name == _PIXELS:
        sides: list[int | str] = [backbone.resolution] * 2
        if opset >= OPSET:
            nodes, name, sides = Nodes(f"{_PREFIX}resize/"), _IMAGE, ["height", "width"]
            add_resizing(nodes, _IMAGE, backbone.resolution, backbone.fit, _PIXELS)
            add_around(model.graph, nodes, Nodes(_PREFIX))
        set_ends(model, name, [shape[0], *sides, 3], _PROBABILITIES, [shape[0], len(card["classes"])])
    model.producer_name, model.graph.name = "fedtransfer", "fedtransfer"
    texts = {"classes": card["classes"], "fedtransfer": card}
    properties = {key: json.dumps(value, ensure_ascii=False) for key, value in texts.items()}
    helper.set_model_props(model, properties)
    with replacement(path, suffix=".onnx") as temporary:
        save(model, temporary, path.name)


def _input(model: ModelProto) -> tuple[str, list[int | str]]:
    """Return the name and shape of the one input."""
    [only] = model.graph.input
    return only.name, [side.dim_value or side.dim_param for side in only.type.tensor_type.shape.dim]


class OnnxModel:
    """A loaded ``model.onnx``, computed by OpenVINO."""

    def __init__(self, file: Path) -> None:
        """Load it. Raises errors of any kind: it is damaged, or not of ``write_onnx_model``."""
        properties = onnx.load(file, load_external_data=False).metadata_props
        card = json.loads({each.key: each.value for each in properties}["fedtransfer"])
        model = CORE.read_model(file)
        self.classes = tuple(card["classes"])
        [name] = model.input().names
        self.width = int(model.input().get_partial_shape()[1].get_length()) if name == _FEATURES else 0
        self._resize = (card["resolution"], card["fit"]) if name == _PIXELS else None
        self._compute = function_of(model)

    def __call__(self, content: NDArray[Any]) -> NDArray[np.float32]:
        """One decoded image (H, W, 3) uint8, or features (d,) float32 → probabilities (C,)."""
        one = content[None].astype(np.float32)
        one = resize(content[None], *self._resize) if self._resize else one
        return self._compute(one)[0]
