"""Run images through the backbone into the feature store: each content once, in fixed-size padded batches."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import Backbone, ReadyMade
from fedtransfer.common.compute import CORES
from fedtransfer.common.data.images import Image, Problem, content_key, decode, vector
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.augmentation import Views, no_views, view, view_key
from fedtransfer.common.features.store import FeatureStore, default_store

Progress = Callable[[int, int], None]  # images done, images to do; each view counts
Piece = tuple[int, int]  # an image's place in the list, and which view of it

BATCH = {True: 64, False: 16}  # images a pass: small ones, and those above 128 pixels a side
SMALL = 3 * 256 * 256  # values in an image up to which those of one size are resized together: 6 x faster
LOOKED_UP = 256  # images that are looked up at a time: handing one over takes longer than reading it from an archive
SHARD_IMAGES = 2048  # features are put on disk at least this often …
SHARD_SECONDS = 20.0  # … and after this time, so that little is lost in a crash


@dataclass(frozen=True)
class Extraction:
    """What an extraction found.

    Attributes:
        keys: the content key of each image, in order; None for one that cannot be read.
        extracted: images that went through the backbone now, or a view of them did.
        reused: images whose features were there.
        problems: the images that cannot be read, with the reason.
    """

    keys: tuple[bytes | None, ...]
    extracted: int
    reused: int
    problems: tuple[Problem, ...]


def open_store(backbone: Backbone, root: str = "") -> FeatureStore:
    """Open the feature store of a backbone below ``root`` ("": the user's cache)."""
    base = Path(root).expanduser() if root else default_store()
    precision = "-bfloat16" if backbone.precision == "bfloat16" else ""
    name = f"{backbone.name}-{backbone.resolution}px-{backbone.identity[:16]}{precision}"
    store = _store(base / name, backbone.features)
    store.refresh()
    return store


_store = lru_cache(maxsize=16)(FeatureStore)  # the sites of a simulation share one


def extract(
    store: FeatureStore,
    backbone: Backbone,
    images: Sequence[Image],
    *,
    views: Views = no_views,
    threads: int = 0,
    strict: bool = False,
    progress: Progress | None = None,
) -> Extraction:
    """Make sure that the features of every readable image, and of the views that are wanted of it, are in the store.

    Only one process extracts into a store at a time; it looks again once it holds the lock.

    Args:
        store: the store of this backbone and resolution.
        backbone: turns images into features.
        images: which; copies of one content are extracted once.
        views: how many augmented views of an image are wanted.
        threads: batches in work at a time (0: one a core).
        strict: stop at the first image that cannot be read.
        progress: told how many of the missing images are done.

    Raises:
        UserError: an image cannot be read and ``strict`` is set.
    """
    with ThreadPoolExecutor(threads or CORES) as pool:
        keys = _keys(images, pool)
        problems = {i: key for i, key in enumerate(keys) if isinstance(key, Problem)}
        _refuse(problems.values(), strict)
        wanted = _wanted(images, keys, views)
        extracted: set[int] = set()
        if _missing(store, wanted):
            with store.lock:
                store.refresh()
                missing = _missing(store, wanted)
                results = (
                    _copy(store, backbone, images, missing)
                    if isinstance(backbone, ReadyMade)
                    else _run(store, backbone, images, missing, pool, progress or (lambda done, total: None))
                )
                for i, result in results:
                    if isinstance(result, Problem):
                        problems |= {
                            j: Problem(images[j].path, result.reason) for j, key in enumerate(keys) if key == keys[i]
                        }
                        _refuse([result], strict)
                    else:
                        keys[i] = result  # the content may have changed since it was first read
                        extracted.add(i)

    def complete(i: int, key: bytes) -> bool:
        return i not in problems and all(view_key(key, v) in store for v in range(views(images[i], key) + 1))

    final = tuple(key if isinstance(key, bytes) and complete(i, key) else None for i, key in enumerate(keys))
    problems |= {
        i: Problem(images[i].path, "changed while it was read")
        for i, key in enumerate(final)
        if key is None and i not in problems
    }
    found = sum(key is not None for key in final)
    return Extraction(final, len(extracted), found - len(extracted), tuple(problems[i] for i in sorted(problems)))


def _wanted(images: Sequence[Image], keys: Sequence[bytes | Problem], views: Views) -> dict[bytes, Piece]:
    """Return for each content the first image that has it, and the most views that are wanted of it."""
    wanted: dict[bytes, Piece] = {}
    for i, key in enumerate(keys):
        if isinstance(key, bytes):
            first, most = wanted.get(key, (i, 0))
            wanted[key] = first, max(most, views(images[i], key))
    return wanted


def _missing(store: FeatureStore, wanted: dict[bytes, Piece]) -> list[Piece]:
    return [(i, v) for key, (i, most) in wanted.items() for v in range(most + 1) if view_key(key, v) not in store]


def _run(
    store: FeatureStore,
    backbone: Backbone,
    images: Sequence[Image],
    pieces: list[Piece],
    pool: ThreadPoolExecutor,
    progress: Progress,
) -> Iterator[tuple[int, bytes | Problem]]:
    """Extract batch by batch, put shards on disk, and yield each image's content key, or why it has none."""
    size = BATCH[backbone.resolution <= 128]
    compute = backbone.extractor(size)

    def work(batch: list[Piece]) -> tuple[list[tuple[int, bytes | Problem]], list[bytes], NDArray[np.float32]]:
        pixels = np.zeros((size, backbone.resolution, backbone.resolution, 3), np.float32)
        results: list[tuple[int, bytes | Problem]] = []
        stored: list[bytes] = []
        alike: dict[tuple[int, ...], list[tuple[int, NDArray[np.uint8]]]] = defaultdict(list)
        for i, numbers in groupby(batch, lambda piece: piece[0]):
            try:
                content = images[i].read()
                key, decoded = content_key(content), decode(content)
            except (OSError, ValueError) as error:
                results.append((i, Problem(images[i].path, _reason(error))))
                continue
            for _, number in numbers:
                seen = view(decoded, key, number)
                if seen.size <= SMALL:
                    alike[seen.shape].append((len(stored), seen))
                else:
                    pixels[len(stored)] = backbone.resize(seen[None])[0]
                stored.append(view_key(key, number))
            results.append((i, key))
        for small in alike.values():
            pixels[[row for row, _ in small]] = backbone.resize(np.stack([seen for _, seen in small]))
        rows = compute(pixels).numpy()[: len(stored)] if stored else np.empty((0, backbone.features), np.float32)
        return results, stored, rows

    keys: list[bytes] = []
    features: list[NDArray[np.float32]] = []
    flushed, done = time.monotonic(), 0
    batches = [pieces[at : at + size] for at in range(0, len(pieces), size)]
    progress(0, len(pieces))
    try:
        for batch, (results, stored, rows) in zip(batches, pool.map(work, batches), strict=True):
            keys += stored
            features.append(rows)
            done += len(batch)
            if len(keys) >= SHARD_IMAGES or time.monotonic() - flushed > SHARD_SECONDS:
                _flush(store, keys, features)
                flushed = time.monotonic()
            progress(done, len(pieces))
            yield from results
    finally:
        _flush(store, keys, features)


def _copy(
    store: FeatureStore, backbone: ReadyMade, images: Sequence[Image], pieces: list[Piece]
) -> Iterator[tuple[int, bytes | Problem]]:
    """Put ready-made features on disk as they are; yield each one's content key, or why it has none."""
    keys: list[bytes] = []
    features: list[NDArray[np.float32]] = []
    for i, _ in pieces:
        try:
            content = images[i].read()
            features.append(vector(content, backbone.features)[None])
            keys.append(content_key(content))
            yield i, keys[-1]
        except (OSError, ValueError) as error:
            yield i, Problem(images[i].path, _reason(error))
    _flush(store, keys, features)


def _flush(store: FeatureStore, keys: list[bytes], features: list[NDArray[np.float32]]) -> None:
    if keys:
        store.add(keys, np.concatenate(features))
    keys.clear()
    features.clear()


def _keys(images: Sequence[Image], pool: ThreadPoolExecutor) -> list[bytes | Problem]:
    """Look images up, blocks of them in threads; the few of a small simulated site take less time than a thread's start."""
    blocks = [images[at : at + LOOKED_UP] for at in range(0, len(images), LOOKED_UP)]
    looked_up = (pool.map if len(blocks) > 1 else map)(lambda block: [_key(image) for image in block], blocks)
    return [key for keys in looked_up for key in keys]


def _key(image: Image) -> bytes | Problem:
    try:
        return image.key()
    except OSError as error:
        return Problem(image.path, _reason(error))


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _refuse(problems: object, strict: bool) -> None:
    if strict and (first := next(iter(problems), None)):  # type: ignore[call-overload]
        raise UserError(f"{first.path}: {first.reason} (--strict stops at the first image that cannot be read)")
