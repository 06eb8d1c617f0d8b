"""Extract features into the store: each content once, in padded batches of a fixed size."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import Backbone, ReadyMade
from fedtransfer.common.backbone.cut import cuts
from fedtransfer.common.compute import OPENVINO
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.feature_table import in_file_order, row_of, tables_of
from fedtransfer.common.data.images import Image, Problem, content_key, decode, vector
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.augmentation import Views, no_views, training_views, view, view_key
from fedtransfer.common.features.ready_made import check_tables, refuse_pixels
from fedtransfer.common.features.store import FeatureStore, default_store
from fedtransfer.common.head.schedule import layers
from fedtransfer.common.support.processes import CORES

Progress = Callable[[int, int], None]  # images done, images to do; each view counts
Piece = tuple[int, int]  # index of an image, number of a view
Result = tuple[int, bytes | Problem]  # index of an image, its key or why it cannot be read

BATCH = {True: 64, False: 16}  # images in a pass: up to 128 pixels a side, and larger ones
SMALL = 3 * 256 * 256  # up to this number of values, images of one size are resized together: 6 x faster
LOOKUP_BLOCK = 256  # images in a thread's task: to hand over one takes longer than to read it from an archive
SHARD_IMAGES = 2048  # features are written after this number of images …
SHARD_SECONDS = 20.0  # … or this time, so that little is lost in a crash
SHARD_ROWS = 16384  # ready-made features are written after this number


@dataclass(frozen=True)
class Extraction:
    """The result of an extraction."""

    keys: tuple[bytes | None, ...]  # the content key of each image, in order; None if it cannot be read
    extracted: int  # the number of images that went through the backbone now, themselves or a view of them
    reused: int  # the number of images whose features were in the store
    problems: tuple[Problem, ...]  # the images that cannot be read, and why


def store_folder(backbone: Backbone, root: str = "") -> Path:
    """Return the folder of a backbone's feature store below ``root`` ("": the user's cache)."""
    base = Path(root).expanduser() if root else default_store()
    # What computes them differently, if only in their last bits, has a store of its own.
    kinds = {"openvino": backbone.engine == OPENVINO, "alone": backbone.alone,
             "bfloat16": backbone.precision == "bfloat16"}  # fmt: skip
    parts = (backbone.name, f"{backbone.resolution}px", backbone.identity[:16])
    name = "-".join([*parts, *(kind for kind, holds in kinds.items() if holds)])
    return base / name


def open_store(backbone: Backbone, root: str = "") -> FeatureStore:
    """Open the feature store of a backbone below ``root``."""
    store = _store(store_folder(backbone, root), backbone.features)
    store.refresh()
    return store


_store = lru_cache(maxsize=16)(FeatureStore)  # the sites of a simulation share one


def extract(
    store: FeatureStore, backbone: Backbone, images: Sequence[Image], *,
    views: Views = no_views, threads: int = 0, strict: bool = False, progress: Progress | None = None,
) -> Extraction:  # fmt: skip
    """Make sure that the features of every readable image and of its views are in the store.

    Ready-made features are put there as they are. Only one process at a time extracts into a store;
    it looks again for missing features once it holds the lock. Copies of one content are extracted
    once.

    Args:
        store, backbone: the store, and the network that it belongs to.
        images: the images, of which ``views`` gives the numbers of augmented views.
        threads: the number of batches at a time (0: one per core).
        strict: whether to raise a UserError at the first image that cannot be read.
        progress: called with the number of missing images that are done, and of all.

    Raises:
        UserError: ready-made features are of another backbone; or ``strict``, see above.
    """
    check_tables(tables_of(image.path for image in images), backbone)
    with ThreadPoolExecutor(threads or CORES) as pool:
        keys = _keys(images, pool)
        problems = {i: key for i, key in enumerate(keys) if isinstance(key, Problem)}
        _refuse(problems.values(), strict)
        contents = _contents(images, keys, views)
        extracted: set[int] = set()
        if _missing(store, contents):
            with store.lock:
                store.refresh()
                missing = _missing(store, contents)
                ready, pixels = _divide(backbone, images, missing)
                results = chain(
                    _copy(store, backbone, images, ready),
                    _run(
                        store, backbone, images, pixels, pool, threads or CORES,
                        progress or (lambda done, total: None),
                    ),
                )  # fmt: skip
                for i, result in results:
                    if isinstance(result, Problem):
                        copies = [j for j, key in enumerate(keys) if key == keys[i]]
                        problems |= {j: Problem(images[j].path, result.reason) for j in copies}
                        _refuse([result], strict)
                    else:
                        keys[i] = result  # the content may have changed since it was first read
                        extracted.add(i)

    def complete(i: int, key: bytes) -> bool:
        return i not in problems and all(view_key(key, v) in store for v in range(views(images[i], key) + 1))

    final = tuple(key if isinstance(key, bytes) and complete(i, key) else None for i, key in enumerate(keys))
    for i, image in enumerate(images):
        if final[i] is None:
            problems.setdefault(i, Problem(image.path, "changed while it was read"))
    reused = sum(key is not None for key in final) - len(extracted)
    return Extraction(final, len(extracted), reused, tuple(problems[i] for i in sorted(problems)))


def _contents(images: Sequence[Image], keys: Sequence[bytes | Problem], views: Views) -> dict[bytes, Piece]:
    """Return for each content the index of its first image, and the largest number of its views."""
    contents: dict[bytes, Piece] = {}
    for i, key in enumerate(keys):
        if isinstance(key, bytes):
            first, most = contents.get(key, (i, 0))
            contents[key] = first, max(most, views(images[i], key))
    return contents


def _missing(store: FeatureStore, contents: dict[bytes, Piece]) -> list[Piece]:
    pieces = ((key, i, v) for key, (i, most) in contents.items() for v in range(most + 1))
    return [(i, v) for key, i, v in pieces if view_key(key, v) not in store]


def _divide(
    backbone: Backbone, images: Sequence[Image], pieces: list[Piece]
) -> tuple[list[Piece], list[Piece]]:
    """Return the pieces that are features already, and those that pass through the backbone."""
    if isinstance(backbone, ReadyMade):
        return pieces, []
    ready: list[Piece] = []
    pixels: list[Piece] = []
    for piece in pieces:
        (ready if row_of(images[piece[0]].path) else pixels).append(piece)
    return ready, pixels


def _run(
    store: FeatureStore, backbone: Backbone, images: Sequence[Image], pieces: list[Piece],
    pool: ThreadPoolExecutor, threads: int, progress: Progress,
) -> Iterator[Result]:  # fmt: skip
    """Extract in batches, write shards, and yield each image's key, or why it cannot be read."""
    if not pieces:  # before the network is loaded
        return
    size = 1 if backbone.alone else BATCH[backbone.resolution <= 128]
    compute = backbone.extractor(size, threads)

    def work(batch: list[Piece]) -> tuple[list[Result], list[bytes], NDArray[np.float32]]:
        pixels = np.zeros((size, backbone.resolution, backbone.resolution, 3), np.float32)
        results: list[Result] = []
        view_keys: list[bytes] = []
        same_size: dict[tuple[int, ...], list[tuple[int, NDArray[np.uint8]]]] = defaultdict(list)
        for i, numbers in groupby(batch, lambda piece: piece[0]):
            try:
                content = images[i].read()
                key, decoded = content_key(content), decode(content)
            except (OSError, ValueError) as error:
                results.append((i, Problem(images[i].path, _reason(error))))
                continue
            for _, number in numbers:
                image = view(decoded, key, number)
                if image.size <= SMALL:
                    same_size[image.shape].append((len(view_keys), image))
                else:
                    pixels[len(view_keys)] = backbone.resize(image[None])[0]
                view_keys.append(view_key(key, number))
            results.append((i, key))
        for small in same_size.values():
            pixels[[row for row, _ in small]] = backbone.resize(np.stack([image for _, image in small]))
        rows = (
            compute(pixels)[: len(view_keys)] if view_keys else np.empty((0, backbone.features), np.float32)
        )
        return results, view_keys, rows

    keys: list[bytes] = []
    features: list[NDArray[np.float32]] = []
    flushed, done = time.monotonic(), 0
    batches = [pieces[at : at + size] for at in range(0, len(pieces), size)]
    progress(0, len(pieces))
    try:
        for batch, (results, view_keys, rows) in zip(batches, pool.map(work, batches), strict=True):
            keys += view_keys
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
    store: FeatureStore, backbone: Backbone, images: Sequence[Image], pieces: list[Piece]
) -> Iterator[Result]:
    """Put ready-made features on disk as they are; yield each's content key, or why it has none."""
    keys: list[bytes] = []
    features: list[NDArray[np.float32]] = []
    for number in in_file_order([images[i].path for i, _ in pieces]):
        i, _ = pieces[number]
        try:
            content = images[i].read()
            features.append(vector(content, backbone.features)[None])
            keys.append(content_key(content))
            yield i, keys[-1]
        except (OSError, ValueError) as error:
            yield i, Problem(images[i].path, _reason(error))
        if len(keys) == SHARD_ROWS:
            _flush(store, keys, features)
    _flush(store, keys, features)


def _flush(store: FeatureStore, keys: list[bytes], features: list[NDArray[np.float32]]) -> None:
    if keys:
        store.add(keys, np.concatenate(features))
    keys.clear()
    features.clear()


def _keys(images: Sequence[Image], pool: ThreadPoolExecutor) -> list[bytes | Problem]:
    """Compute content keys; one block takes less time than the start of a thread."""
    order = in_file_order([image.path for image in images])
    blocks = [order[at : at + LOOKUP_BLOCK] for at in range(0, len(order), LOOKUP_BLOCK)]
    keys = (pool.map if len(blocks) > 1 else map)(lambda block: [_key(images[i]) for i in block], blocks)
    by_number = dict(zip(order, chain.from_iterable(keys), strict=True))
    return [by_number[i] for i in range(len(images))]


def _key(image: Image) -> bytes | Problem:
    try:
        return image.key()
    except OSError as error:
        return Problem(image.path, _reason(error))


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _refuse(problems: Iterable[Problem], strict: bool) -> None:
    if strict and (first := next(iter(problems), None)):
        raise UserError(
            f"{first.path}: {first.reason} (--strict stops at the first image that cannot be read)"
        )


def extract_all(
    backbone: Backbone, images: Sequence[Image], config: RunConfig, progress: Progress | None = None
) -> tuple[Extraction, dict[str, FeatureStore]]:
    """Store features of every readable image and its views, for each layer a run trains from.

    ``progress`` is called as in ``extract``, for one cut after the other.

    Returns:
        The result at the last cut, with the number of images extracted at all cuts; layer → store.

    Raises:
        UserError: the backbone cannot be cut at these layers; ready-made features are of another
            backbone, or pixels are needed; or an image cannot be read and ``strict`` is set.
    """
    refuse_pixels(config, tables_of(image.path for image in images))
    stores, extracted = {}, 0
    for cut in cuts(backbone, layers(config)):
        stores[cut.layer] = open_store(cut.below, config.store)
        extraction = extract(
            stores[cut.layer], cut.below, images, views=training_views(config), threads=config.threads,
            strict=config.strict, progress=progress,
        )  # fmt: skip
        extracted += extraction.extracted
    return replace(extraction, extracted=extracted), stores
