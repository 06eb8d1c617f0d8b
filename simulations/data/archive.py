"""Data in memory, written once to disk as archives and manifests.

A simulated site is the same as a real one: it reads its images from disk. So arrays go to a folder
next to the feature store. The folder is named after their content, so a second run on the same data
writes nothing.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from fedtransfer.common.data.images import Content, Image, decode
from fedtransfer.common.data.sources import write_manifest
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import cache_folder
from fedtransfer.simulations.data.examples import Examples, read_examples

Embed = Callable[[NDArray[np.uint8]], Any]  # images (n, h, w, 3) uint8 → features (n, d)
BATCH = 64  # images in a call of a backbone object


@dataclass(frozen=True)
class Archive:
    """Data on disk."""

    path: Path  # a manifest; with ``natural``, a folder with a manifest for each site
    natural: bool  # whether the data say which site has which images
    width: int  # d for ready-made features, 0 for images


def archive_data(data: Any, embed: Embed | None = None) -> Archive:
    """Write data to disk, unless they are there.

    Args:
        data: the examples of all sites together; or a mapping, site → its examples.
        embed: a backbone object; its features are written in place of the images.

    Raises:
        UserError: the data are of an unknown kind, are empty, or do not fit together.
    """
    if not isinstance(data, Mapping):
        return archive_parts({"data": read_examples(data, "data")}, False, embed)
    parts = {_site(str(name)): read_examples(part, f"site {name}") for name, part in data.items()}
    if len(parts) < 2:
        got = f"got a dict of {len(parts)} sites"
        raise UserError(f"data: {got}; expected at least two, or a pair (x, y) to divide")
    return archive_parts(parts, True, embed)


def archive_parts(parts: Mapping[str, Examples], natural: bool, embed: Embed | None = None) -> Archive:
    """Do the same as ``archive_data`` for examples: site → its examples, or one entry ``data``."""
    if embed:
        contents = {name: part.arrays or map(_read, part.images) for name, part in parts.items()}
        features = {name: embed_images(embed, images) for name, images in contents.items()}
        parts = {name: replace(part, arrays=features[name]) for name, part in parts.items()}
    widths = sorted({part.width for part in parts.values()})
    if len(widths) > 1:
        have = f"sites have features of the widths {widths} (0: images)"
        raise UserError(f"data: {have}; expected one width for all")
    root = cache_folder("datasets").resolve()
    folder = root / f"arrays-{_digest(parts)[:16]}"
    if not folder.exists():
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".") as temporary:
            unfinished = Path(temporary) / "data"
            unfinished.mkdir()
            _write(unfinished, folder, parts)
            unfinished.replace(folder)
    return Archive(folder if natural else folder / "data.csv", natural, widths[0])


def embed_images(embed: Embed, images: Iterable[Content]) -> list[NDArray[np.float32]]:
    """Return the features (d,) float32 of images; each batch has images of one shape.

    Raises:
        UserError: an image cannot be read, or the object does not return (n, d) finite numbers.
    """
    features: list[NDArray[np.float32]] = []
    batch: list[NDArray[np.uint8]] = []
    for content in images:
        try:
            image = decode(content)
        except ValueError as error:
            raise UserError(f"image {len(features) + len(batch)} cannot be read: {error}") from None
        if batch and (len(batch) == BATCH or batch[0].shape != image.shape):
            features += _embed_batch(embed, batch)
            batch = []
        batch.append(image)
    return features + (_embed_batch(embed, batch) if batch else [])


def _embed_batch(embed: Embed, batch: list[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
    features, n = np.asarray(embed(np.stack(batch)), np.float32), len(batch)
    if features.ndim != 2 or len(features) != n or not np.isfinite(features).all():
        raise UserError(
            f"backbone: returned {features.dtype} of shape {features.shape} for {n} images; expected finite "
            f"numbers of shape ({n}, d)"
        )
    return list(features)


def _read(image: Image) -> Content:
    try:
        return image.read()
    except OSError as error:
        raise UserError(f"{image.path}: {error.strerror or error}") from None


def _site(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        raise UserError(
            f"data: got site {name!r}; expected a name without slashes that does not begin with a dot, "
            "as it names a file"
        )
    return name


def _digest(parts: Mapping[str, Examples]) -> str:
    state = hashlib.sha256()
    for name, part in parts.items():
        state.update(repr((name, part.images)).encode())
        for array in part.arrays:
            state.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return state.hexdigest()


def _write(unfinished: Path, folder: Path, parts: Mapping[str, Examples]) -> None:
    """Write a manifest NAME.csv a site; arrays of one shape into one archive, others as PNG files.

    All sites share one archive, since a process keeps only the last two archives in memory.
    """
    arrays = [array for part in parts.values() for array in part.arrays]
    alike = len({array.shape for array in arrays}) == 1
    if alike:
        np.savez(unfinished / ".arrays.npz", x=np.stack(arrays))
    rows = count()
    for name, part in parts.items():
        images = list(part.images)
        for k, (array, row) in enumerate(zip(part.arrays, rows, strict=False)):
            name_of_image = f".arrays.npz#x/{row}" if alike else f".{row:06}.png"
            if not alike:
                Pillow.fromarray(array.squeeze()).save(unfinished / name_of_image)
            images[k] = replace(images[k], path=str(folder / name_of_image))
        write_manifest(unfinished / f"{name}.csv", images)
