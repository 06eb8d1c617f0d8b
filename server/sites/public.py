"""Public labelled images at the server, on which heads are scored without asking the sites."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import Backbone, configured_backbone
from fedtransfer.common.backbone.cut import HEAD
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.extraction import extract_all
from fedtransfer.common.features.feature_map import Moments, feature_map
from fedtransfer.common.features.store import FeatureStore
from fedtransfer.common.head.head import Arrays, HeadSpec, head_spec, predict
from fedtransfer.common.head.metrics import Counts, confusion_matrix
from fedtransfer.common.support.text import counted, nearest
from fedtransfer.server.rounds.progress import MOMENTS, Candidate, Progress

_BATCH = 256  # images in one pass through a network


@dataclass(frozen=True)
class PublicImages:
    """All images of ``--public-data``, regardless of their split."""

    config: RunConfig
    backbone: Backbone
    classes: tuple[str, ...]
    labels: NDArray[np.int64]  # class numbers (n,)
    _keys: Sequence[bytes]
    _stores: dict[str, FeatureStore]
    _cache: dict[tuple[str, bytes], NDArray[np.float32]] = field(default_factory=dict)

    def counts(self, progress: Progress, candidate: Candidate | None = None) -> Counts:
        """Score the current head, or ``candidate``."""
        return Counts.of(self._probabilities(progress, candidate), self.labels)

    def matrix(self, progress: Progress, candidate: Candidate) -> NDArray[np.int64]:
        """Return a head's confusion matrix (C, C): true classes in rows, predicted in columns."""
        return confusion_matrix(self._probabilities(progress, candidate), self.labels)

    def _probabilities(self, progress: Progress, candidate: Candidate | None) -> NDArray[np.float32]:
        scored = candidate or progress.last(math.inf, progress.round)
        x = self._features(scored.trainable, progress.arrays.get(MOMENTS))
        if scored.trainable == HEAD:
            return predict(scored.head, x)
        network = _network(head_spec(self.config, self.backbone, len(self.classes), scored.trainable))
        batches = [x[start : start + _BATCH] for start in range(0, len(x), _BATCH)]
        return np.concatenate([network(scored.head, batch) for batch in batches])

    def _features(self, layer: str, moments: Moments | None) -> NDArray[np.float32]:
        """Return features (n, d') as heads see them; at a deeper cut, as the network gives them."""
        key = layer, b"".join(array.tobytes() for array in moments or ())
        if key not in self._cache:
            self._cache.clear()
            x = self._stores[layer].read(list(self._keys))
            self._cache[key] = feature_map(self.config, self.backbone, moments)(x) if layer == HEAD else x
        return self._cache[key]


def public_images(config: RunConfig, classes: tuple[str, ...]) -> PublicImages | None:
    """Read ``--public-data`` and extract missing features; return None if the run has no such data.

    Raises:
        UserError: the images cannot be read, or have a class that the run does not have.
    """
    if not config.public_data:
        return None
    images = read_source(Path(config.public_data).expanduser()).images
    if unknown := sorted({image.label for image in images} - set(classes)):
        raise UserError(
            f"--public-data {config.public_data}: has {counted(len(unknown), 'class', 'classes')} that the "
            f"run does not have, such as {unknown[0]!r}; {nearest(unknown[0], list(classes))}"
        )
    plain, backbone = config.model_copy(update={"augment": 0}), configured_backbone(config)
    extraction, stores = extract_all(backbone, images, plain)
    number = {name: i for i, name in enumerate(classes)}
    pairs = [
        (key, number[image.label])
        for image, key in zip(images, extraction.keys, strict=True)
        if key is not None
    ]
    if not pairs:
        raise UserError(f"--public-data {config.public_data}: none of its {len(images)} images can be read")
    keys, labels = zip(*pairs, strict=True)
    return PublicImages(config, backbone, classes, np.array(labels, np.int64), keys, stores)


@lru_cache(maxsize=4)
def _network(spec: HeadSpec) -> Any:
    """Return a function from trained arrays and features (n, w) to probabilities (n, C)."""
    from fedtransfer.common.head.keras_head import build_above, build_head
    from fedtransfer.common.tensorflow import tf

    parts = [part for part in (build_above(spec), build_head(spec)) if part]
    variables = [variable for part in parts for variable in part.trainable_variables]

    def probabilities(head: Arrays, x: NDArray[np.float32]) -> NDArray[np.float32]:
        for variable, array in zip(variables, head, strict=True):
            variable.assign(array)
        activations: Any = tf.constant(x)
        for part in parts:
            activations = part(activations, training=False)
        return np.asarray(tf.nn.softmax(activations).numpy())

    return probabilities
