"""The output of a network in ONNX that gives the features, and how it becomes one vector."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from onnx import TensorProto

from fedtransfer.common.backbone.onnx_file import ImageInput
from fedtransfer.common.backbone.onnx_graph import Nodes
from fedtransfer.common.errors import UserError

Shape = tuple[int, ...]
# How an output becomes a vector: as it is, its first token, or its mean over rows and columns.
Reduction = Literal["whole", "token", "NCHW", "NHWC"]


def choose(shapes: Mapping[str, Shape | None], path: Path) -> tuple[str, str]:
    """Return the output that gives the features, and a note if there are others."""
    names = list(shapes)
    if len(names) == 1:
        return names[0], ""
    vectors = [name for name, shape in shapes.items() if shape and len(shape) == 2]
    listed = ", ".join(f"{name} {_sides(shape)}" for name, shape in shapes.items())
    if len(vectors) != 1:
        raise UserError(
            f"--backbone {path}: it has {len(names)} outputs: {listed}; "
            f"name the one that gives the features: --backbone {path}#{names[0]}"
        )
    return vectors[0], f"{path.name}: features are output {vectors[0]}, the only vector of {listed}"


def _sides(shape: Shape | None) -> str:
    return "of no fixed shape" if shape is None else f"({', '.join(('n', *map(str, shape[1:])))})"


def reduction_of(
    shape: Shape | None, batch: int, image: ImageInput, source: str
) -> tuple[Reduction, int, str]:
    """Return how an output becomes a vector, the vector's width, and a note on it."""
    refusal = f"--backbone {source} is {_sides(shape)}; expected one vector an image, (n, d)"
    if shape is None:
        raise UserError(f"{refusal}; export the network so that the width is fixed")
    if shape[0] != batch:
        raise UserError(f"{refusal}, got {shape} for {batch} images")
    if len(shape) == 2:
        return "whole", shape[1], ""
    if len(shape) == 3:
        grid = math.isqrt(shape[1] - 1)
        if grid**2 == shape[1] - 1:
            rest = f"{grid} x {grid} patches follow it"
            return "token", shape[2], f"features are the class token, the first of {shape[1]}; {rest}"
        raise UserError(
            f"{refusal}. These may be a transformer's tokens, but they are not a class token and a square of "
            "patches; export it with a pooled output, or name a tensor: --backbone FILE.onnx#NAME"
        )
    if len(shape) == 4:
        orders: list[Reduction] = ["NCHW", "NHWC"] if image.first else ["NHWC", "NCHW"]
        for order in orders:
            height, width, channels = shape[2:] + shape[1:2] if order == "NCHW" else shape[1:]
            if height == width:
                places = f"features are the mean over {height} x {width} places"
                return order, channels, places if height > 1 else ""
    raise UserError(refusal)


def add_reduction(nodes: Nodes, output: str, reduction: Reduction) -> None:
    """Add the nodes from an output to ``features`` (n, d) float32."""
    values = nodes.add("Cast", output, to=TensorProto.FLOAT)
    if reduction == "token":
        values = nodes.add("Gather", values, nodes.constant(0, np.int64), axis=1)
    elif reduction != "whole":
        if reduction == "NHWC":
            values = nodes.add("Transpose", values, perm=[0, 3, 1, 2])
        values = nodes.add("Flatten", nodes.add("GlobalAveragePool", values))
    nodes.add("Identity", values, output="features")
