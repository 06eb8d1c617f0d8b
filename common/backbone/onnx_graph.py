"""Graphs in ONNX: nodes to add, what a tensor depends on, a digest without names, files.

Only operators that mean the same in every version of ONNX' operator set since 11 are added, so that
they fit whatever version a network was exported in.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

LARGE = 1 << 30  # bytes of a model from which on its weights are in a file next to it; ONNX' limit is 2 GiB
DATA = ".data"  # is added to the name of a file of such weights


class Nodes:
    """Nodes and constants that are added to a graph, under names of their own."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, values: Any, dtype: type = np.float32) -> str:
        """Add a constant; return its name."""
        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node with one output; return the output's name."""
        output = output or f"{self.prefix}{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output


def uses(node: NodeProto) -> set[str]:
    """Return the names of what a node computes with, graphs inside it included."""
    names = {name for name in node.input if name}
    for graph in (graph for attribute in node.attribute for graph in _graphs(attribute)):
        inside = {name for inner in graph.node for name in uses(inner)} | {each.name for each in graph.output}
        outputs = {name for inner in graph.node for name in inner.output}
        names |= inside - outputs - {each.name for each in (*graph.input, *graph.initializer)}
    return names


def keep_only(graph: GraphProto, output: str) -> None:
    """Remove the nodes and constants that a tensor does not depend on."""
    needed = {output}
    for i, node in reversed([*enumerate(graph.node)]):
        if needed & set(node.output):
            needed |= uses(node)
        else:
            del graph.node[i]
    for i, constant in reversed([*enumerate(graph.initializer)]):
        if constant.name not in needed:
            del graph.initializer[i]  # to copy the others would take as much memory as they do


def add_around(graph: GraphProto, before: Nodes, after: Nodes) -> None:
    """Put nodes before and after those of a graph."""
    nodes = [*before.nodes, *graph.node, *after.nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*before.constants, *after.constants])


def set_ends(
    model: ModelProto, image: str, shape: Sequence[Any], output: str, output_shape: Sequence[Any]
) -> None:
    """Declare a model's input and output, in float32, and drop what it says of other tensors."""
    graph = model.graph
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.append(helper.make_tensor_value_info(image, TensorProto.FLOAT, shape))
    graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, output_shape))


def digest(model: ModelProto, output: str) -> str:
    """Return the SHA-256 of what a tensor is computed from, in hexadecimal.

    Counted are operators with their attributes and versions, connections and constants; not names,
    descriptions and the order of nodes. The graph has one input; its weights are in memory.
    """
    [image] = model.graph.input
    versions = {each.domain: each.version for each in model.opset_import}
    return _digests(model.graph, {image.name: "image"}, versions)[output]


def _digests(graph: GraphProto, outer: Mapping[str, str], versions: Mapping[str, int]) -> dict[str, str]:
    """Return tensor → digest, for a graph whose nodes stand after those that they depend on."""
    digests = {**outer, "": ""}
    digests |= {tensor.name: _tensor(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Identity":
            digests[node.output[0]] = digests[node.input[0]]
            continue
        schema = _schema(node, versions)
        described = _attributes(node, schema, digests, versions)
        parts = [node.domain, node.op_type, schema.since_version if schema else versions.get(node.domain, 0),
                 *described, "inputs", *(digests[name] for name in node.input)]  # fmt: skip
        for position, name in enumerate(node.output):
            digests[name] = _sha256(repr([*parts, position]).encode())
    return digests


def _schema(node: NodeProto, versions: Mapping[str, int]) -> Any:
    version = versions.get(node.domain, 0)
    if not onnx.defs.has(node.op_type, version, node.domain):
        return None
    return onnx.defs.get_schema(node.op_type, version, node.domain)


def _attributes(
    node: NodeProto, schema: Any, digests: Mapping[str, str], versions: Mapping[str, int]
) -> list[tuple[str, Any]]:
    """Describe a node's attributes by name, without those at the operator's default."""
    described = []
    for attribute in sorted(node.attribute, key=lambda attribute: attribute.name):
        definition = schema.attributes.get(attribute.name) if schema else None
        default = definition.default_value if definition else None
        if default is not None and default.type and _same(attribute, default):
            continue
        if graphs := _graphs(attribute):
            value: Any = [_graph(graph, digests, versions) for graph in graphs]
        elif attribute.type == AttributeProto.TENSOR:
            value = _tensor(attribute.t)
        else:
            value = helper.get_attribute_value(attribute)
            value = list(value) if attribute.type in (AttributeProto.FLOATS, AttributeProto.INTS) else value
        described.append((attribute.name, value))
    return described


def _same(attribute: AttributeProto, default: AttributeProto) -> bool:
    return bool(
        attribute.type == default.type
        and helper.get_attribute_value(attribute) == helper.get_attribute_value(default)
    )


def _graph(graph: GraphProto, outer: Mapping[str, str], versions: Mapping[str, int]) -> list[str]:
    inputs = {each.name: f"input {i} inside" for i, each in enumerate(graph.input)}
    digests = _digests(graph, {**outer, **inputs}, versions)
    return [digests[each.name] for each in graph.output]


def _graphs(attribute: AttributeProto) -> list[GraphProto]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _tensor(tensor: TensorProto) -> str:
    array: NDArray[Any] = numpy_helper.to_array(tensor)
    state = hashlib.sha256(f"{tensor.data_type}{array.shape}".encode())
    is_text = array.dtype.kind == "O"
    content: Any = repr(array.tolist()).encode() if is_text else array.reshape(-1).view(np.uint8)
    state.update(content)
    return state.hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def save(model: ModelProto, path: Path, name: str = "") -> None:
    """Write a model; weights of a large one go into ``NAME.data`` next to it, and out of memory."""
    data = path.with_name((name or path.name) + DATA)
    data.unlink(missing_ok=True)  # ONNX would add to it
    if sum(tensor.ByteSize() for tensor in model.graph.initializer) < LARGE:
        path.write_bytes(model.SerializeToString())
    else:
        onnx.save(model, path, save_as_external_data=True, location=data.name)
