"""Cut the network in two: the part below is frozen and runs once per image, the rest is trained.

A network can be cut wherever a single tensor crosses: before a stage or a block of a residual
network, whose shortcuts stay whole. The crossing tensor is stored in place of the pooled features.
Above the cut, convolutions are trained (kernels and, if present, biases). BatchNormalization keeps
its statistics, gamma and beta, and all layers run in inference mode.
"""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import Backbone
from fedtransfer.common.compute import keras
from fedtransfer.common.errors import UserError

HEAD = "head"  # the name of the cut above the whole network, of which nothing is trained
_LOCK = threading.Lock()  # Keras' name scopes are not safe for several threads


@dataclass(frozen=True)
class Above:
    """The part above a cut; two are equal if backbone and cut are."""

    fingerprint: str  # of the part below, which identifies backbone and cut
    width: int = field(compare=False)  # w, the number of values that cross the cut for an image
    features: int = field(compare=False)  # d, the width of pooled features
    # Names of the trained arrays, from the cut upwards: ``conv5_block1_1_conv/kernel``.
    names: tuple[str, ...] = field(compare=False, repr=False)
    # The values of these arrays in the backbone.
    pretrained: tuple[NDArray[np.float32], ...] = field(compare=False, repr=False)
    _network: Any = field(compare=False, repr=False)
    _crossing: Any = field(compare=False, repr=False)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the trained arrays."""
        return tuple(array.shape for array in self.pretrained)

    def build(self) -> Any:
        """Build a new Keras model, flattened tensors at the cut (n, w) → pooled features (n, d).

        Its ``trainable_variables`` are those of ``names``, with pretrained values. Call it with
        ``training=False``.
        """
        return _upper(self._network, self._crossing)


@dataclass(frozen=True, eq=False)
class Cut:
    """A backbone, cut in two."""

    layer: str  # the stage, block or layer at which training begins, or ``head``
    below: Backbone  # maps images to the flattened tensor at the cut; the whole backbone for ``head``
    above: Above | None  # the rest; None for ``head``


@dataclass(frozen=True, eq=False)
class _Below(Backbone):
    """The lower part as a backbone, whose features are the values that cross the cut."""

    identity: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """The identity, which follows from the fingerprint of the whole backbone and the cut."""
        return self.identity


def cut(backbone: Backbone, layer: str) -> Cut:
    """Cut before a stage (``conv5``), block (``conv5_block2``) or layer, or nowhere: ``head``.

    Raises:
        UserError: no layer's name is that or begins with it, several tensors cross there, or no
            convolution is above; the text lists the possible names.
    """
    if layer == HEAD:
        return Cut(HEAD, backbone, None)
    with _LOCK:
        return _cut(backbone, layer)


def cuts(backbone: Backbone, layers: Sequence[str]) -> tuple[Cut, ...]:
    """Cut a backbone before several layers. Raises UserError: one is not deeper, or see ``cut``."""
    result = tuple(cut(backbone, layer) for layer in layers)
    for first, second in pairwise(result):
        if _arrays(second) <= _arrays(first):
            raise UserError(
                f"unfreeze-at: {second.layer} trains no more of {backbone.name} "
                f"than {first.layer} before it; {_offer(_flat(backbone))}"
            )
    return result


def _arrays(cut: Cut) -> int:
    return len(cut.above.names) if cut.above else 0


@lru_cache(maxsize=8)
def _cut(backbone: Backbone, layer: str) -> Cut:
    network = _flat(backbone)
    location = _find(network, layer)
    if isinstance(location, str):
        raise UserError(f"layer {layer!r} of {backbone.name}: {location}; {_offer(network)}")
    at, crossing = location
    lower = keras.Model(network.input, keras.layers.Flatten(name="at_the_cut")(crossing))
    lower.trainable = False
    identity = hashlib.sha256(f"{backbone.fingerprint} below node {at}".encode()).hexdigest()
    name = f"{backbone.name}-below-{_operation(crossing).name.replace('/', '_')}"
    below = _Below(
        name, backbone.resolution, lower, None, backbone.notes, backbone.precision, identity=identity
    )
    trained = _upper(network, crossing).trainable_variables
    names, values = tuple(v.path for v in trained), tuple(v.numpy() for v in trained)
    return Cut(
        layer, below, Above(identity, below.features, backbone.features, names, values, network, crossing)
    )


@lru_cache(maxsize=2)
def _flat(backbone: Backbone) -> Any:
    """Return a copy of a network at its resolution, with the models inside it flattened."""
    image = keras.Input((backbone.resolution, backbone.resolution, 3), name="image")
    return keras.Model(image, _replay(backbone.network, backbone.network.input, image))


def _upper(network: Any, crossing: Any) -> Any:
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


def _find(network: Any, layer: str) -> tuple[int, Any] | str:
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
        across = ", ".join(_operation(tensor).name for key, tensor in used.items() if key not in reached)
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


def _offer(network: Any) -> str:
    """List the possible names, from the head down, one for each number of trained parameters."""
    nodes = _nodes(network)
    parts = [node.operation.name.split("_") for node in nodes if _trains(node.operation)]
    names = {"_".join(part[:n]): None for part in parts for n in range(1, len(part) + 1)}
    offered: dict[int, str] = {}
    for name in sorted(names, key=len):
        if not isinstance(location := _find(network, name), str):
            layers = {id(node.operation): node.operation for node in nodes[location[0] :]}
            offered.setdefault(sum(layer.count_params() for layer in layers.values() if _trains(layer)), name)
    choices = (f"{name} ({number:,} parameters)" for number, name in sorted(offered.items()))
    return f"give head, or one of {', '.join(choices)}"


def _trains(operation: Any) -> bool:
    return "Conv" in type(operation).__name__ and operation.name != "preprocess"


def _is_named(name: str, layer: str) -> bool:
    return name == layer or name.startswith(f"{layer}_")


def _operation(tensor: Any) -> Any:
    return tensor._keras_history.operation


def _nodes(network: Any) -> list[Any]:
    """Return the nodes of a functional model's graph, each after the nodes that it depends on."""
    by_depth = network._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
