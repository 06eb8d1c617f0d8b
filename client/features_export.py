"""Export of the features of images to a file that a run takes as data."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.feature_card import FeatureCard
from fedtransfer.common.data.feature_table import row_of
from fedtransfer.common.data.feature_writer import check_kind, write_features
from fedtransfer.common.data.images import Image, Problem, split_of
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.extraction import Progress, extract, open_store
from fedtransfer.common.features.ready_made import card_for
from fedtransfer.common.features.store import FeatureStore

_ROWS = 4096  # rows that are written at a time


def export_features(
    source: Path, out: Path, config: RunConfig, *, splits: bool = False, progress: Progress | None = None
) -> tuple[FeatureCard, Sequence[Problem]]:
    """Write the features of images with their ids, labels, groups and splits.

    An id is an image's path below ``source``. Supplied splits are written in any case.

    Args:
        source: labelled images.
        out: the file to write.
        config: names the backbone.
        splits: whether to write the splits that a run with ``config`` makes.
        progress: called as in ``extract``.

    Returns:
        The file's card, and the images that cannot be read.

    Raises:
        UserError: the images or the backbone are not usable, two images have one id, or the file
            cannot be written.
    """
    check_kind(out)
    backbone, listed = configured_backbone(config), read_source(source)
    store = open_store(backbone, config.store)
    extraction = extract(store, backbone, listed.images, threads=config.threads, progress=progress)
    pairs = [(image, key) for image, key in zip(listed.images, extraction.keys, strict=True) if key]
    if not pairs:
        raise UserError(
            f"{source}: none of its images can be read; the first: {extraction.problems[0].reason}"
        )
    columns = {
        "id": [_id(image, source) for image, _ in pairs],
        "label": [image.label for image, _ in pairs],
        "group": [image.group for image, _ in pairs],
        "split": [_split(image, key, config, splits) for image, key in pairs],
    }
    columns = {name: values for name, values in columns.items() if any(values)}
    (name, times), *_ = Counter(columns["id"]).most_common(1)
    if times > 1:
        raise UserError(f"{source}: it lists {name} {times} times; a features file has one row an image")
    card = card_for(backbone, len(pairs))
    write_features(out, card, columns, _blocks(store, [key for _, key in pairs]))
    return card, (*listed.problems, *extraction.problems)


def _blocks(store: FeatureStore, keys: Sequence[bytes]) -> Iterator[NDArray[np.float32]]:
    return (store.read(keys[at : at + _ROWS]) for at in range(0, len(keys), _ROWS))


def _id(image: Image, source: Path) -> str:
    """Return a path relative to the folder of the source; the row of an archive by its place."""
    if row := row_of(image.path):
        return row[1]
    if image.path.startswith(f"{source}#"):
        return image.path.removeprefix(f"{source}#")
    folder = source if source.is_dir() else source.parent
    return Path(os.path.relpath(image.path, folder)).as_posix()


def _split(image: Image, key: bytes, config: RunConfig, every: bool) -> str:
    """Return the split to write: ``fit`` is training, not to be divided further."""
    split = image.split
    if every:
        split = split_of(image, key, config.seed, config.test_fraction, config.validation_fraction)
    return "fit" if split == "train" else split
