"""Public labelled images at the server: heads are scored on them, so that no site need say how they do on its own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import Backbone, configured_backbone
from fedtransfer.common.backbone.cut import HEAD
from fedtransfer.common.compute import tf
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.feature_map import Moments, feature_map
from fedtransfer.common.features.preparation import extract_all
from fedtransfer.common.features.store import FeatureStore
from fedtransfer.common.head.head import Arrays, HeadSpec, build_above, build_head
from fedtransfer.common.head.metrics import Counts, confusion_matrix
from fedtransfer.common.head.spec import head_spec
from fedtransfer.common.support.text import nearest
from fedtransfer.server.rounds.progress import MOMENTS, Candidate, Progress

_TOGETHER = 256  # images that go through a network at a time


@dataclass(frozen=True)
class PublicImages:
    """All images of ``--public-data``, whatever split they are of.

    Attributes:
        config: the run's.
        classes: its class names.
        labels: class numbers (n,).
    """

    config: RunConfig
    backbone: Backbone
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    _keys: Sequence[bytes]
    _stores: dict[str, FeatureStore]
    _seen: dict[tuple[str, bytes], NDArray[np.float32]] = field(default_factory=dict)

    def counts(self, progress: Progress, candidate: Candidate | None = None) -> Counts:
        """Count how the head that a run stands at does, or another one."""
        return Counts.of(self._probabilities(progress, candidate), self.labels)

    def matrix(self, progress: Progress, candidate: Candidate) -> NDArray[np.int64]:
        """Count the images by true class (rows) and the class that a head gives them to, (C, C)."""
        return confusion_matrix(self._probabilities(progress, candidate), self.labels)

    def _probabilities(self, progress: Progress, candidate: Candidate | None) -> NDArray[np.float32]:
        head = candidate.head if candidate else progress.state.head
        layer = candidate.trainable if candidate else progress.trainable
        x = self._features(layer, progress.kept.get(MOMENTS))
        spec = head_spec(self.config, self.backbone, len(self.classes), layer)
        pieces = [x[at : at + _TOGETHER] for at in range(0, len(x), _TOGETHER)]
        return np.concatenate([_network(spec)(head, piece) for piece in pieces])

    def _features(self, layer: str, moments: Any) -> NDArray[np.float32]:
        """Return (n, d') as heads see them, or as the network gives them at a deeper cut; the last asked for are kept."""
        key = layer, b"".join(array.tobytes() for array in moments or ())
        if key not in self._seen:
            self._seen.clear()
            x = self._stores[layer].read(list(self._keys))
            self._seen[key] = self._mapped(x, moments) if layer == HEAD else x
        return self._seen[key]

    def _mapped(self, x: NDArray[np.float32], moments: Moments | None) -> NDArray[np.float32]:
        return feature_map(self.config, self.backbone, moments)(x)


def public_images(config: RunConfig, classes: tuple[str, ...]) -> PublicImages | None:
    """Read ``--public-data`` and extract what features are missing; None where a run has none.

    Raises:
        UserError: they cannot be read, or have a class that the run does not have.
    """
    if not config.public_data:
        return None
    images = read_source(Path(config.public_data).expanduser()).images
    if unknown := sorted({image.label for image in images} - set(classes)):
        raise UserError(
            f"--public-data {config.public_data}: has {len(unknown)} classes that the run does not have, such as "
            f"{unknown[0]!r}; {nearest(unknown[0], list(classes))}"
        )
    plain, backbone = config.model_copy(update={"augment": 0}), configured_backbone(config)
    extraction, stores = extract_all(backbone, images, plain)
    number = {name: i for i, name in enumerate(classes)}
    read = [(key, number[image.label]) for image, key in zip(images, extraction.keys, strict=True) if key is not None]
    if not read:
        raise UserError(f"--public-data {config.public_data}: none of its {len(images)} images can be read")
    keys, labels = zip(*read, strict=True)
    return PublicImages(config, backbone, classes, np.array(labels, np.int64), keys, stores)


@lru_cache(maxsize=4)
def _network(spec: HeadSpec) -> Any:
    """Return a function from a head's arrays and features (n, w) to probabilities (n, C)."""
    parts = [part for part in (build_above(spec), build_head(spec)) if part]
    variables = [variable for part in parts for variable in part.trainable_variables]

    def probabilities(head: Arrays, x: NDArray[np.float32]) -> NDArray[np.float32]:
        for variable, array in zip(variables, head, strict=True):
            variable.assign(array)
        passed: Any = tf.constant(x)
        for part in parts:
            passed = part(passed, training=False)
        return np.asarray(tf.nn.softmax(passed).numpy())

    return probabilities
