"""What a run trains: the head, and what of the backbone is above the cut."""

from functools import lru_cache

from fedtransfer.common.backbone.backbone import Backbone
from fedtransfer.common.backbone.cut import HEAD, cut
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.features.feature_map import feature_map, feature_width
from fedtransfer.common.head.head import HeadSpec


@lru_cache(maxsize=32)
def head_spec(config: RunConfig, backbone: Backbone, classes: int, layer: str = HEAD) -> HeadSpec:
    """Return what is trained from a layer of the backbone on.

    Args:
        config: the head's settings, and what becomes of features.
        backbone: that of ``configured_backbone``.
        classes: C.
        layer: where the network is cut; ``head`` for the head alone.

    Raises:
        UserError: the backbone cannot be cut there.
    """
    width, above = feature_width(config, backbone), cut(backbone, layer).above
    mapped = feature_map(config, backbone) if above else None
    return HeadSpec.from_config(config, width, classes, above, mapped)
