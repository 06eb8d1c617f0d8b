"""The cost of training to a depth: parameters, bytes of a message, store and memory."""

from dataclasses import dataclass

import numpy as np

from fedtransfer.common.backbone.backbone import Backbone
from fedtransfer.common.backbone.cut import HEAD, cuts
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import head_spec
from fedtransfer.common.head.schedule import schedule
from fedtransfer.common.support.text import size

KEY_BYTES = 32  # stored with each image's features


@dataclass(frozen=True)
class Cost:
    """The cost of training a part of the network from some round on."""

    round: int  # the first round
    layer: str  # the layer from which on the network is trained; ``head`` for the head alone
    parameters: int  # number of trained parameters
    message: int  # bytes of a message to or from a site, without the 2 KB around it
    image: int  # bytes of an image's features
    images: int  # number of images

    @property
    def stored(self) -> int:
        """Bytes in the feature store."""
        return self.images * (self.image + KEY_BYTES)

    @property
    def memory(self) -> int:
        """Bytes of features in memory while sites train."""
        return self.images * self.image

    def __str__(self) -> str:
        part = "the head alone" if self.layer == HEAD else f"all convolutions from {self.layer} on"
        return (
            f"From round {self.round}, {part} ({self.parameters:,} parameters):"
            f" {size(self.message)} to a site and back each round, {size(self.image)} an image,"
            f" {size(self.stored)} on disk and {size(self.memory)} in memory for {self.images:,} images."
        )


def costs(config: RunConfig, backbone: Backbone, classes: int, images: int) -> tuple[Cost, ...]:
    """Return the cost of each step of the unfreezing schedule.

    ``images`` is the number of stored ones, augmented views included, of one machine or of all.

    Raises:
        UserError: the backbone cannot be cut at one of the layers.
    """
    result = []
    copies = 1 + config.method.control_variates  # they travel next to the head, and are as large
    steps = schedule(config)
    for (first, layer), cut in zip(steps, cuts(backbone, [layer for _, layer in steps]), strict=True):
        parameters = sum(int(np.prod(shape)) for shape in head_spec(config, backbone, classes, layer).shapes)
        result.append(Cost(first, layer, parameters, copies * 4 * parameters, 4 * cut.below.features, images))
    return tuple(result)
