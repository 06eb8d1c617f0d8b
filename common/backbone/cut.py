"""Cut the network in two: the part below is frozen and runs once per image, the rest is trained.

A network can be cut wherever a single tensor crosses: before a stage or a block of a residual
network, whose shortcuts stay whole. The crossing tensor is stored in place of the pooled features.
Above the cut, convolutions are trained (kernels and, if present, biases). BatchNormalization keeps
its statistics, gamma and beta, and all layers run in inference mode.
"""

import hashlib
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import Backbone
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
    activations: int = field(compare=False)  # values that its layers compute for an image
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
        from fedtransfer.common.backbone.surgery import upper

        return upper(self._network, self._crossing)


@dataclass(frozen=True, eq=False)
class Cut:
    """A backbone, cut in two."""

    layer: str  # the stage, block or layer at which training begins, or ``head``
    below: Backbone  # maps images to the flattened tensor at the cut; the whole backbone for ``head``
    above: Above | None  # the rest; None for ``head``


def cut(backbone: Backbone, layer: str) -> Cut:
    """Cut before a stage (``conv5``), block (``conv5_block2``) or layer, or nowhere: ``head``.

    Anything but ``head`` loads TensorFlow.

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
            from fedtransfer.common.backbone.surgery import offer

            raise UserError(
                f"unfreeze-at: {second.layer} trains no more of {backbone.name} "
                f"than {first.layer} before it; {offer(_flat(backbone))}"
            )
    return result


def _arrays(cut: Cut) -> int:
    return len(cut.above.names) if cut.above else 0


@lru_cache(maxsize=8)
def _cut(backbone: Backbone, layer: str) -> Cut:
    from fedtransfer.common.backbone import surgery

    network = _flat(backbone)
    location = surgery.find(network, layer)
    if isinstance(location, str):
        raise UserError(f"layer {layer!r} of {backbone.name}: {location}; {surgery.offer(network)}")
    at, crossing = location
    lower = surgery.lower(network, crossing)
    identity = hashlib.sha256(f"{backbone.fingerprint} below node {at}".encode()).hexdigest()
    name = f"{backbone.name}-below-{surgery.operation(crossing).name.replace('/', '_')}"
    width = int(lower.output_shape[-1])
    below = Backbone(
        name, backbone.resolution, width, identity, None, backbone.notes, backbone.precision, backbone.fit,
        alone=backbone.alone, load=lambda: lower,
    )  # fmt: skip
    upper = surgery.upper(network, crossing)
    trained = upper.trainable_variables
    activations = sum(math.prod(layer.output.shape[1:]) for layer in upper.layers)
    names, values = tuple(v.path for v in trained), tuple(v.numpy() for v in trained)
    above = Above(identity, width, backbone.features, names, values, activations, network, crossing)
    return Cut(layer, below, above)


@lru_cache(maxsize=2)
def _flat(backbone: Backbone) -> Any:
    from fedtransfer.common.backbone.surgery import flat

    return flat(backbone.network, backbone.resolution)
