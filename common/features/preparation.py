"""All features of a run: of every image and its augmented views, at every cut of the network."""

from collections.abc import Sequence
from dataclasses import replace

from fedtransfer.common.backbone.backbone import Backbone
from fedtransfer.common.backbone.cut import cuts
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.images import Image
from fedtransfer.common.features.augmentation import training_views
from fedtransfer.common.features.extraction import Extraction, Progress, extract, open_store
from fedtransfer.common.features.store import FeatureStore
from fedtransfer.common.head.depth import layers


def extract_all(
    backbone: Backbone, images: Sequence[Image], config: RunConfig, progress: Progress | None = None
) -> tuple[Extraction, dict[str, FeatureStore]]:
    """Store the features of every readable image, for each layer that a run trains from.

    Args:
        backbone: from ``configured_backbone``.
        images: the images.
        config: says store, layers, augmentation, threads and strictness.
        progress: called with the number of missing images that are done, and of all, for one cut
            after the other.

    Returns:
        The result at the last cut, with the number of images extracted at all cuts; layer → store.

    Raises:
        UserError: the backbone cannot be cut at these layers, or an image cannot be read and
            ``strict`` is set.
    """
    stores, extracted = {}, 0
    for cut in cuts(backbone, layers(config)):
        stores[cut.layer] = open_store(cut.below, config.store)
        extraction = extract(
            stores[cut.layer], cut.below, images, views=training_views(config), threads=config.threads,
            strict=config.strict, progress=progress,
        )  # fmt: skip
        extracted += extraction.extracted
    return replace(extraction, extracted=extracted), stores
