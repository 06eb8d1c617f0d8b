"""Take a Keras network apart at a layer, and build the parts again as models of their own."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fedtransfer.common.tensorflow import keras


def flat(network: Any, resolution: int) -> Any:
    """Return a copy of a network at a resolution, with the models inside it flattened."""
    image = keras.Input((resolution, resolution, 3), name="image")
    return keras.Model(image, _replay(network, network.input, image))


def lower(network: Any, crossing: Any) -> Any:
    """Build the part of a network up to a tensor, images → the flattened tensor (n, w)."""
    model = keras.Model(network.input, keras.layers.Flatten(name="at_the_cut")(crossing))
    model.trainable = False
    return model


def upper(network: Any, crossing: Any) -> Any:
    """Build the part above a tensor, flattened (n, w) → pooled features (n, d)."""
    flattened = keras.Input((int(np.prod(crossing.shape[1:])),), name="at_the_cut")
    start = keras.layers.Reshape(crossing.shape[1:], name="shape_at_the_cut")(flattened)
    model = keras.Model(flattened, _replay(network, crossing, start), name="above")
    for layer in model.layers:
        layer.trainable = _trains(layer)
    return model


def _replay(network: Any, begin: Any, start: Any, names: set[str] | None = None) -> Any:
    """Apply copies of what follows tensor ``begin`` to tensor ``start``; return the output."""
    names = {"image"} if names is None else names
    tensors, copies = {id(begin): start}, {}
    for node in _nodes(network):
        if node.is_input or any(id(tensor) not in tensors for tensor in node.input_tensors):
            continue
        arguments, options = node.arguments.fill_in(tensors)
        operation = node.operation
        inner = getattr(operation, "_functional", operation)
        if hasattr(inner, "_nodes_by_depth"):
            outputs = [_replay(inner, inner.inputs[0], arguments[0], names)]
        else:
            new = id(operation) not in copies
            if new:
                copies[id(operation)] = _copy(operation, names)
            outputs = keras.tree.flatten(copies[id(operation)](*arguments, **options))
            if new and isinstance(operation, keras.layers.Layer):
                copies[id(operation)].set_weights(operation.get_weights())
        tensors |= {id(old): new for old, new in zip(node.outputs, outputs, strict=True)}
    return tensors[id(network.outputs[0])]


def _copy(operation: Any, names: set[str]) -> Any:
    name = operation.name
    while name in names:  # two models inside one may have layers of one name
        name += "_"
    names.add(name)
    return type(operation).from_config({**operation.get_config(), "name": name})


def find(network: Any, layer: str) -> tuple[int, Any] | str:
    """Return the number of nodes below a cut and the crossing tensor, or why there is no cut."""
    nodes = _nodes(network)
    named = [not node.is_input and _is_named(node.operation.name, layer) for node in nodes]
    if True not in named:
        return "no layer's name is that or begins with it"
    possible = [pair for pair in _crossings(nodes, network.outputs[0]) if pair[0] <= named.index(True)]
    at, crossing = possible[-1]
    # Next to those of that name may be layers without weights (a shortcut's pooling), no others.
    reached: set[int] = set()
    used: dict[int, Any] = {}
    whole = True
    for node, is_named in list(zip(nodes, named, strict=True))[at:]:
        if is_named or any(id(tensor) in reached for tensor in node.input_tensors):
            reached |= {id(tensor) for tensor in node.outputs}
            used |= {id(tensor): tensor for tensor in node.input_tensors}
        else:
            whole = whole and not getattr(node.operation, "weights", [])
    if not whole:
        across = ", ".join(operation(tensor).name for key, tensor in used.items() if key not in reached)
        return f"several tensors cross the network there, the outputs of {across}, and only one can be stored"
    if not any(_trains(node.operation) for node in nodes[at:]):
        return "no convolution is left from there on"
    return at, crossing


def _crossings(nodes: list[Any], output: Any) -> Iterator[tuple[int, Any]]:
    """Yield k and a tensor wherever later nodes need only that tensor from the first k nodes."""
    last = {id(tensor): i for i, node in enumerate(nodes) for tensor in node.input_tensors}
    last[id(output)] = len(nodes)
    needed: dict[int, Any] = {}
    for i, node in enumerate(nodes):
        needed |= {id(tensor): tensor for tensor in node.outputs}
        needed = {key: tensor for key, tensor in needed.items() if last.get(key, -1) > i}
        if len(needed) == 1:
            yield i + 1, *needed.values()


def offer(network: Any) -> str:
    """List the possible names, from the head down, one for each number of trained parameters."""
    nodes = _nodes(network)
    parts = [node.operation.name.split("_") for node in nodes if _trains(node.operation)]
    names = {"_".join(part[:n]): None for part in parts for n in range(1, len(part) + 1)}
    offered: dict[int, str] = {}
    for name in sorted(names, key=len):
        if not isinstance(location := find(network, name), str):
            layers = {id(node.operation): node.operation for node in nodes[location[0] :]}
            offered.setdefault(sum(layer.count_params() for layer in layers.values() if _trains(layer)), name)
    choices = (f"{name} ({number:,} parameters)" for number, name in sorted(offered.items()))
    return f"give head, or one of {', '.join(choices)}"


def _trains(operation: Any) -> bool:
    return "Conv" in type(operation).__name__ and operation.name != "preprocess"


def _is_named(name: str, layer: str) -> bool:
    return name == layer or name.startswith(f"{layer}_")


def operation(tensor: Any) -> Any:
    """Return the layer or operation that a Keras tensor is the output of."""
    return tensor._keras_history.operation


def _nodes(network: Any) -> list[Any]:
    """Return the nodes of a functional model's graph, each after the nodes that it depends on."""
    by_depth = network._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
