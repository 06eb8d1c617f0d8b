"""Run images through the backbone into the feature store: each content once, in fixed-size padded batches."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.backbone import Backbone
from common.compute import CORES
from common.errors import UserError
from common.features import FeatureStore, default_store
from common.images import Image, Problem, content_key, decode

Progress = Callable[[int, int], None]  # images done, images to do

BATCH = {True: 64, False: 16}  # images a pass: small ones, and those above 128 pixels a side
SMALL = 3 * 256 * 256  # values in an image up to which those of one size are resized together: 6 x faster
FEW = 64  # images that are looked up in the calling thread
SHARD_IMAGES = 2048  # features are put on disk at least this often …
SHARD_SECONDS = 20.0  # … and after this time, so that little is lost in a crash


@dataclass(frozen=True)
class Extraction:
    """What an extraction found.

    Attributes:
        keys: the content key of each image, in order; None for one that cannot be read.
        extracted: images that went through the backbone now.
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
    name = f"{backbone.name}-{backbone.resolution}px-{backbone.fingerprint[:16]}{precision}"
    store = _store(base / name, backbone.features)
    store.refresh()
    return store


_store = lru_cache(maxsize=4)(FeatureStore)  # the sites of a simulation share one


def extract(
    store: FeatureStore,
    backbone: Backbone,
    images: Sequence[Image],
    *,
    threads: int = 0,
    strict: bool = False,
    progress: Progress | None = None,
) -> Extraction:
    """Make sure that the features of every readable image are in the store.

    Only one process extracts into a store at a time; it looks again once it holds the lock.

    Args:
        store: the store of this backbone and resolution.
        backbone: turns images into features.
        images: which; copies of one content are extracted once.
        threads: batches in work at a time (0: one a core).
        strict: stop at the first image that cannot be read.
        progress: told how many of the missing images are done.

    Raises:
        UserError: an image cannot be read and ``strict`` is set.
    """
    with ThreadPoolExecutor(threads or CORES) as pool:
        # Starting threads takes longer than reading the few images of a small simulated site.
        keys = list(pool.map(_key, images) if len(images) > FEW else map(_key, images))
        problems = {i: key for i, key in enumerate(keys) if isinstance(key, Problem)}
        _refuse(problems.values(), strict)
        wanted = {key: i for i, key in reversed(list(enumerate(keys))) if isinstance(key, bytes)}
        missing = sorted(i for key, i in wanted.items() if key not in store)
        extracted = 0
        if missing:
            with store.lock:
                store.refresh()
                missing = sorted(i for key, i in wanted.items() if key not in store)
                for i, result in _run(
                    store, backbone, [(i, images[i]) for i in missing], pool, progress or (lambda done, total: None)
                ):
                    if isinstance(result, Problem):
                        problems |= {
                            j: Problem(images[j].path, result.reason) for j, key in enumerate(keys) if key == keys[i]
                        }
                        _refuse([result], strict)
                    else:
                        keys[i] = result  # the content may have changed since it was first read
                        extracted += 1
    final = tuple(
        None if i in problems or isinstance(key, Problem) or key not in store else key for i, key in enumerate(keys)
    )
    problems |= {
        i: Problem(images[i].path, "changed while it was read")
        for i, key in enumerate(final)
        if key is None and i not in problems
    }
    found = sum(key is not None for key in final)
    return Extraction(final, extracted, found - extracted, tuple(problems[i] for i in sorted(problems)))


def _run(
    store: FeatureStore,
    backbone: Backbone,
    images: list[tuple[int, Image]],
    pool: ThreadPoolExecutor,
    progress: Progress,
) -> Iterator[tuple[int, bytes | Problem]]:
    """Extract batch by batch, put shards on disk, and yield each image's key, or why it has none."""
    size = BATCH[backbone.resolution <= 128]
    compute = backbone.extractor(size)

    def work(batch: list[tuple[int, Image]]) -> tuple[list[tuple[int, bytes | Problem]], NDArray[np.float32]]:
        pixels = np.zeros((size, backbone.resolution, backbone.resolution, 3), np.float32)
        results: list[tuple[int, bytes | Problem]] = []
        rows = 0
        alike: dict[tuple[int, ...], list[tuple[int, NDArray[np.uint8]]]] = defaultdict(list)
        for i, image in batch:
            try:
                content = image.read()
                decoded = decode(content)
                if decoded.size <= SMALL:
                    alike[decoded.shape].append((rows, decoded))
                else:
                    pixels[rows] = backbone.resize(decoded[None])[0]
                results.append((i, content_key(content)))
                rows += 1
            except (OSError, ValueError) as error:
                results.append((i, Problem(image.path, _reason(error))))
        for small in alike.values():
            pixels[[row for row, _ in small]] = backbone.resize(np.stack([decoded for _, decoded in small]))
        return results, compute(pixels).numpy()[:rows] if rows else np.empty((0, backbone.features), np.float32)

    keys: list[bytes] = []
    features: list[NDArray[np.float32]] = []
    flushed, done = time.monotonic(), 0
    progress(0, len(images))
    try:
        for results, rows in pool.map(work, [images[at : at + size] for at in range(0, len(images), size)]):
            keys += [key for _, key in results if isinstance(key, bytes)]
            features.append(rows)
            done += len(results)
            if len(keys) >= SHARD_IMAGES or time.monotonic() - flushed > SHARD_SECONDS:
                _flush(store, keys, features)
                flushed = time.monotonic()
            progress(done, len(images))
            yield from results
    finally:
        _flush(store, keys, features)


def _flush(store: FeatureStore, keys: list[bytes], features: list[NDArray[np.float32]]) -> None:
    if keys:
        store.add(keys, np.concatenate(features))
    keys.clear()
    features.clear()


def _key(image: Image) -> bytes | Problem:
    try:
        return content_key(image.read())
    except OSError as error:
        return Problem(image.path, _reason(error))


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _refuse(problems: object, strict: bool) -> None:
    if strict and (first := next(iter(problems), None)):  # type: ignore[call-overload]
        raise UserError(f"{first.path}: {first.reason} (--strict stops at the first image that cannot be read)")
