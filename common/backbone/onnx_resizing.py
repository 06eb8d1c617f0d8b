"""Fit and resize images inside a graph in ONNX, as ``fedtransfer.common.backbone.resizing`` does.

ONNX has an operator for it, whose results differ between programs at the edges. Here each axis is a
product with a matrix of weights that the graph works out from the image's size.
"""

import numpy as np
from onnx import TensorProto

from fedtransfer.common.backbone.onnx_graph import Nodes

OPSET = 11  # the oldest version of ONNX' operators that can do it
_FLOAT, _INT64 = int(TensorProto.FLOAT), int(TensorProto.INT64)


def add_resizing(nodes: Nodes, image: str, resolution: int, fit: str, output: str) -> None:
    """Add the nodes from images (n, H, W, 3) float32 to ``output`` (n, R, R, 3) float32."""
    shape = nodes.add("Shape", image)
    height, width = (nodes.add("Gather", shape, nodes.constant(at, np.int64)) for at in (1, 2))
    if fit == "stretch":
        down, across = (_weights(nodes, length, resolution) for length in (height, width))
    elif fit == "pad":
        side = _extreme(nodes, "Max", height, width)
        down, across = (_padded_weights(nodes, side, length, resolution) for length in (height, width))
    else:
        side = _extreme(nodes, "Min", height, width)
        for axis, length in ((1, height), (2, width)):
            image = nodes.add("Gather", image, _middle(nodes, length, side), axis=axis)
        down = across = _weights(nodes, side, resolution)
    rows = nodes.add("Reshape", image, nodes.constant([0, 0, -1], np.int64))
    rows = nodes.add("MatMul", down, rows)
    rows = nodes.add("Reshape", rows, nodes.constant([0, resolution, -1, 3], np.int64))
    nodes.add("MatMul", across, rows, output=output)


def _extreme(nodes: Nodes, operator: str, height: str, width: str) -> str:
    """Return the longer or shorter side; in float32, as older versions of the operators want it."""
    sides = (nodes.add("Cast", side, to=_FLOAT) for side in (height, width))
    return nodes.add("Cast", nodes.add(operator, *sides), to=_INT64)


def _middle(nodes: Nodes, length: str, side: str) -> str:
    """Return the places of the ``side`` pixels in the middle of ``length``."""
    begin = nodes.add("Div", nodes.add("Sub", length, side), nodes.constant(2, np.int64))
    return _range(nodes, begin, nodes.add("Add", begin, side))


def _padded_weights(nodes: Nodes, side: str, length: str, resolution: int) -> str:
    """Return the weights of pixels between two bars of ⌊(side - length) / 2⌋."""
    two = nodes.constant(2, np.int64)
    bar = nodes.add("Div", nodes.add("Sub", side, length), two)
    weights = _weights(nodes, nodes.add("Add", length, nodes.add("Mul", bar, two)), resolution)
    return nodes.add("Gather", weights, _range(nodes, bar, nodes.add("Add", bar, length)), axis=1)


def _weights(nodes: Nodes, before: str, after: int) -> str:
    """Return an axis' weights (after, before): a triangle around the centre of each output."""
    one, half = nodes.constant(1), nodes.constant(0.5)
    length = nodes.add("Cast", before, to=_FLOAT)
    scale = nodes.add("Div", one, nodes.add("Div", nodes.constant(after), length))
    support = nodes.add("Max", scale, one)
    outputs = nodes.constant(np.arange(after, dtype=np.float32)[:, None] + np.float32(0.5))
    pixels = _range(nodes, nodes.constant(0, np.int64), before)
    pixels = nodes.add("Add", nodes.add("Cast", pixels, to=_FLOAT), half)
    distance = nodes.add("Abs", nodes.add("Sub", pixels, nodes.add("Mul", outputs, scale)))
    weights = nodes.add("Relu", nodes.add("Sub", one, nodes.add("Div", distance, support)))
    ones = nodes.add("Add", nodes.add("Mul", pixels, nodes.constant(0)), one)
    ones = nodes.add("Reshape", ones, nodes.constant([-1, 1], np.int64))
    return nodes.add("Div", weights, nodes.add("MatMul", weights, ones))


def _range(nodes: Nodes, begin: str, end: str) -> str:
    return nodes.add("Range", begin, end, nodes.constant(1, np.int64))
