"""The trained part of a run: the head, and the layers of the backbone above the cut."""

from functools import lru_cache

from fedtransfer.common.backbone.backbone import Backbone
from fedtransfer.common.backbone.cut import HEAD, cut
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.features.feature_map import feature_map, feature_width
from fedtransfer.common.head.head import HeadSpec


@lru_cache(maxsize=32)
def head_spec(config: RunConfig, backbone: Backbone, classes: int, layer: str = HEAD) -> HeadSpec:
    """Return the shape of the trained part from a layer of the backbone on.

    Args:
        config: the settings of the head and of the feature map.
        backbone: the network from ``configured_backbone``.
        classes: C.
        layer: the layer of the cut; ``head`` for the head alone.

    Raises:
        UserError: the backbone cannot be cut there.
    """
    width, above = feature_width(config, backbone), cut(backbone, layer).above
    mapped = feature_map(config, backbone) if above else None
    return HeadSpec.from_config(config, width, classes, above, mapped)
