"""Small networks in ONNX, made without PyTorch."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from fedtransfer.common.backbone.onnx_graph import Nodes

FEATURES = 12
RANKS = {"vector": 2, "map": 4, "tokens": 3}


def network(
    *, last: bool = False, batch: int | str = "n", side: int | str = "s", end: str = "vector",
    opset: int = 18, names: str = "", seed: int = 0, kind: int = TensorProto.FLOAT, top: bool = False,
) -> ModelProto:  # fmt: skip
    """A convolution and what follows it.

    Args:
        last: whether the image's channels stand last.
        batch, side: dimensions of the image.
        end: what the output is: a ``vector`` (n, d), a ``map`` (n, d, h, w), ``tokens`` (n, t, d).
        opset: the version of ONNX' operators.
        names: what all names begin with.
        seed: of the weights.
        kind: the type of numbers.
        top: whether class scores follow the vector.
    """
    rng, nodes = np.random.default_rng(seed), Nodes(names or "x/")
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    image = x = f"{names}image"
    if last:
        x = nodes.add("Transpose", x, perm=[0, 3, 1, 2])
    kernel = nodes.constant(rng.normal(0, 0.4, (FEATURES, 3, 3, 3)), dtype)
    x = nodes.add("Conv", x, kernel, nodes.constant(rng.normal(0, 0.1, FEATURES), dtype), strides=[2, 2])
    x = nodes.add("Relu", x)
    if end == "vector":
        x = nodes.add("Flatten", nodes.add("GlobalAveragePool", x), output=f"{names}features")
    elif end == "tokens":
        x = nodes.add("Reshape", x, nodes.constant([0, FEATURES, -1], np.int64))
        x = nodes.add("Transpose", x, perm=[0, 2, 1])
    if top:
        kernel = nodes.constant(rng.normal(size=(FEATURES, 4)), dtype)
        x = nodes.add("MatMul", x, kernel, output="scores")
    shape: list[Any] = [batch, side, side, 3] if last else [batch, 3, side, side]
    return model(nodes, [(image, shape)], [x], RANKS[end], opset, kind)


def model(
    nodes: Nodes, inputs: list[tuple[str, list[Any]]], outputs: list[str], rank: int = 2, opset: int = 18,
    kind: int = TensorProto.FLOAT,
) -> ModelProto:  # fmt: skip
    """A model of nodes; of its outputs the file says the number of dimensions only."""
    graph = helper.make_graph(
        nodes.nodes, "graph", [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, kind, [None] * rank) for name in outputs], nodes.constants,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def saved(made: ModelProto, path: Path, *, external: bool = False) -> str:
    """Write a model, with its weights in ``NAME.weights`` next to it if they are external."""
    location = f"{path.stem}.weights"
    onnx.save(made, path, save_as_external_data=external, location=location, size_threshold=0)
    return str(path)
