"""What a run may cost a site: memory, disk and time, estimated before work begins.

The settings of a run decide how large features are, how many there are, and how much memory a batch
needs; a site knows its number of images. So it computes the cost, and refuses a run that costs more
than ``[limits]`` of its ``site.toml`` says, with the numbers.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedtransfer.client.deployment.settings import Limits, SiteFolder
from fedtransfer.common.backbone.backbone import Backbone, ReadyMade, configured_backbone
from fedtransfer.common.backbone.cut import HEAD, Cut, cuts
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.images import Image
from fedtransfer.common.errors import SiteError
from fedtransfer.common.features.extraction import BATCH, Progress, store_folder
from fedtransfer.common.features.feature_map import feature_width
from fedtransfer.common.head.cost import KEY_BYTES
from fedtransfer.common.head.head import head_spec
from fedtransfer.common.head.schedule import layers
from fedtransfer.common.support.machine import folder_bytes
from fedtransfer.common.support.processes import CORES
from fedtransfer.common.support.text import size
from fedtransfer.common.wire.sums import requested_sums

FLOAT = 4  # bytes
COPIES = 3  # of features in memory: as they are read, joined, and as heads see them
HEAD_COPIES = 8  # of a head: before and after training, gradients, an optimizer's moments, the answer
# Of programs: without TensorFlow, and with it, which what is deeper than the head needs.
PLAIN_BYTES, DEEP_BYTES = 400_000_000, 900_000_000
PIXEL_BYTES = 200  # of activations in a network for a pixel of its input: ResNets need 192
SCORED = 64  # images whose activations take as much as those of a batch that is scored, layer by layer
WARM_UP_SECONDS = 60.0  # of making features, after which their whole time is predicted


@dataclass(frozen=True)
class Cost:
    """What a run costs a site, in bytes."""

    disk: int  # of all features, those of other runs included
    memory: int  # of the worker: its programs, features, and the largest batch


def refuse_costly(site: SiteFolder, config: RunConfig, images: Sequence[Image]) -> None:
    """Refuse a run that needs more memory or disk at this site than its limits allow.

    Raises:
        SiteError: it does; the text has both numbers.
        UserError: the network cannot be read, or cut where the run wants it cut.
    """
    store = site.path(site.settings.store)
    cost = cost_of(config, images, store)
    limits = site.settings.limits
    for kind, needed, bound in (
        ("disk", cost.disk, limits.disk(store)),
        ("memory", cost.memory, limits.memory),
    ):
        if needed > bound:
            raise SiteError(
                "too-costly",
                f"the run needs {size(needed)} of {kind} at this site, which gives {size(bound)}; lower "
                "augment, resolution, batch-size or dimensions, or train fewer layers, or ask its people to "
                f"raise {kind}-gb in [limits]",
            )


def cost_of(config: RunConfig, images: Sequence[Image], store: Path) -> Cost:
    """Estimate what a run costs a site with these images, before any of them is read."""
    backbone = configured_backbone(config)
    classes = len(config.declared_classes or {image.label for image in images})
    views = _views(config, images)
    rest, disk, features, batch = folder_bytes(store), 0, 0, 0
    for cut in cuts(backbone, layers(config)):
        folder = store_folder(cut.below, str(store))
        present = folder_bytes(folder)
        rest -= present
        disk += max(present, views * (FLOAT * cut.below.features + KEY_BYTES))
        width = max(cut.below.features, feature_width(config, backbone))
        features = max(features, COPIES * views * FLOAT * width)
        batch = max(batch, _batch(config, cut, width), _pass(config, cut.below))
        shapes = head_spec(config, backbone, classes, cut.layer).shapes
        features += HEAD_COPIES * FLOAT * sum(math.prod(shape) for shape in shapes)
    programs = DEEP_BYTES if layers(config) != (HEAD,) else PLAIN_BYTES
    return Cost(rest + disk, programs + features + batch + _matrices(config, backbone))


def watched(progress: Progress, limits: Limits) -> Progress:
    """Return a progress that ends the making of features where it will take too long.

    It raises a SiteError with the numbers.
    """
    began = at = time.monotonic()

    def watch(done: int, total: int) -> None:
        nonlocal at
        now = time.monotonic()
        at = now if not done else at  # of one cut after the other
        progress(done, total)
        hours = (now - began + (total - done) * (now - at) / max(done, 1)) / 3600
        if limits.hours_to_prepare and now - at > WARM_UP_SECONDS and hours > limits.hours_to_prepare:
            raise SiteError(
                "too-costly",
                f"to make the run's features takes {hours:.3g} hours at this site, which gives "
                f"{limits.hours_to_prepare:g}; lower augment or resolution, or ask its people to raise "
                "hours-to-prepare in [limits]",
            )

    return watch


def _views(config: RunConfig, images: Sequence[Image]) -> int:
    """Return the number of stored features, where training images have augmented views."""
    trained = (1 - config.test_fraction) * (1 - config.validation_fraction)
    training = sum(image.split == "train" if image.split else trained for image in images)
    return len(images) + math.ceil(config.augment * training)


def _pass(config: RunConfig, below: Backbone) -> int:
    """Return the memory of the batches that are in the network at a time."""
    if isinstance(below, ReadyMade):
        return 0
    images = BATCH[below.resolution <= 128] * (config.threads or CORES)
    return images * below.resolution**2 * PIXEL_BYTES


def _batch(config: RunConfig, cut: Cut, width: int) -> int:
    """Return the memory of a training step; above a cut it holds all activations and gradients."""
    values = width + (cut.above.activations if cut.above else 0)
    return max(2 * config.batch_size, SCORED if cut.above else 0) * FLOAT * values


def _matrices(config: RunConfig, backbone: Backbone) -> int:
    """Return the memory of what is as wide as features squared: a projection, a Gram matrix."""
    width = feature_width(config, backbone)
    projection = FLOAT * backbone.features * width if config.project != "none" else 0
    gram = 8 * (width + 1) ** 2 if any("gram" in kind for kind in requested_sums(config)) else 0
    return 2 * (projection + gram)
