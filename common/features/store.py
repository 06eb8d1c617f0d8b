"""The feature store: an image passes through a backbone only once.

A store is a folder for one backbone and resolution. It holds immutable shards. Each is a NumPy file
of records (key, feature), and its name is the SHA-256 of its bytes. A key is the SHA-256 of an
image's content, or the key of an augmented view (``fedtransfer.common.features.augmentation``).
Features are stored raw, as the backbone gives them.

A shard is written whole and flushed to the disk: a lost one costs up to hours of extraction.
"""

import hashlib
import io
import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import ABANDONED_SECONDS, cache_folder, write_whole

log = logging.getLogger(__name__)


def default_store() -> Path:
    """Return the default folder of stores, below ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    return cache_folder("features")


@dataclass
class FeatureStore:
    """Features of one backbone at one resolution."""

    folder: Path  # holds the shards
    width: int  # d, the length of a feature vector
    _rows: dict[bytes, tuple[NDArray[np.void], int]] = field(default_factory=dict, repr=False)
    _shards: set[str] = field(default_factory=set, repr=False)
    _refresh_lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.utime(self.folder)  # "last used", for `fedtransfer features prune --unused-days`
        except OSError as error:
            raise UserError(
                f"feature store {self.folder}: cannot be made: {error.strerror}; "
                "name another folder with --store"
            ) from None
        self.refresh()

    @property
    def lock(self) -> FileLock:
        """The extraction lock: hold it, then ``refresh``, then extract what is still missing."""
        return FileLock(self.folder / "extraction.lock")

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def refresh(self) -> None:
        """Read new shards; a damaged one is set aside, and its images will be extracted again."""
        with self._refresh_lock:
            self._refresh()

    def _refresh(self) -> None:
        for name in sorted(
            {name for name in os.listdir(self.folder) if name.endswith(".npy")} - self._shards
        ):
            path = self.folder / name
            records = open_shard(path)
            self._shards.add(name)
            if records is None or records["feature"].shape[1:] != (self.width,):
                log.warning(
                    "feature store: %s is damaged; set aside, its images will be extracted again", path
                )
                path.rename(path.with_suffix(".damaged"))
            else:
                self._rows.update((key, (records, row)) for row, key in enumerate(_keys(records)))

    def read(self, keys: Sequence[bytes]) -> NDArray[np.float32]:
        """Return the raw features of ``keys``, (n, d) float32. Raises KeyError: one is missing."""
        features = np.empty((len(keys), self.width), np.float32)
        for i, key in enumerate(keys):
            records, row = self._rows[key]
            features[i] = records[row]["feature"]
        return features

    def add(self, keys: Sequence[bytes], features: NDArray[np.float32]) -> None:
        """Store features (n, d) float32 under their keys as a new shard, on disk on return."""
        records = np.empty(len(keys), [("key", "u1", (32,)), ("feature", "<f4", (self.width,))])
        records["key"] = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32)
        records["feature"] = features
        buffer = io.BytesIO()
        np.save(buffer, records, allow_pickle=False)
        content = buffer.getbuffer()
        # Only the owner may read features, which say something about the images.
        write_whole(self.folder / f"{hashlib.sha256(content).hexdigest()}.npy", content, mode=0o600)
        self.refresh()


def open_shard(path: Path) -> NDArray[np.void] | None:
    """Memory-map a shard after checking it against the hash in its name; None if it is damaged."""
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != path.stem:
            return None
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _keys(records: NDArray[np.void]) -> Iterable[bytes]:
    joined = records["key"].tobytes()
    return (joined[i : i + 32] for i in range(0, len(joined), 32))


@dataclass(frozen=True)
class StoreReport:
    """The features of one backbone at one resolution."""

    path: Path  # their folder
    # images, shards, bytes: their numbers, and the size of all shards.
    images: int
    shards: int
    bytes: int
    last_used: str  # day of the last read or write
    damaged: int  # the number of shards that were set aside or, if they were verified, fail their checksum
    leftovers: int  # the number of temporary files of killed writers


def survey_store(root: Path, *, verify: bool) -> list[StoreReport]:
    """Report on every backbone's features below ``root``; ``verify`` checks SHA-256 of shards."""
    if not root.exists():
        return []
    if not root.is_dir():
        raise UserError(f"feature store {root}: not a folder")
    return [_report(folder, verify) for folder in _folders(root)]


def prune_store(
    root: Path, *, backbone: str = "", unused_days: int = 0, dry_run: bool = False
) -> list[tuple[Path, int]]:
    """Remove damaged files, leftovers and folders that options name; return files with sizes."""
    now = time.time()
    files: list[Path] = []
    for folder in _folders(root):
        old = unused_days and now - _last_used(folder) > unused_days * 86400
        if (backbone and backbone in folder.name) or old:
            files += [file for file in folder.iterdir() if file.suffix in (".npy", ".damaged", ".tmp")]
        else:
            files += folder.glob("*.damaged")
            files += [
                file for file in folder.glob(".*.tmp") if now - file.stat().st_mtime > ABANDONED_SECONDS
            ]
            files += [shard for shard in folder.glob("*.npy") if open_shard(shard) is None]
    removed = [(path, path.stat().st_size) for path in sorted(files)]
    if not dry_run:
        for path, _ in removed:
            path.unlink()
        for folder in {path.parent for path in files}:
            if not any(file.suffix == ".npy" for file in folder.iterdir()):
                (folder / "extraction.lock").unlink(missing_ok=True)
                folder.rmdir()
    return removed


def _folders(root: Path) -> list[Path]:
    return sorted(folder for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else []


def _report(folder: Path, verify: bool) -> StoreReport:
    shards = sorted(folder.glob("*.npy"))
    images, damaged = 0, len(list(folder.glob("*.damaged")))
    for shard in shards:
        if verify and open_shard(shard) is None:
            damaged += 1
            continue
        try:
            images += len(np.load(shard, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError):
            damaged += 1
    size = sum(shard.stat().st_size for shard in shards)
    day = time.strftime("%Y-%m-%d", time.localtime(_last_used(folder)))
    return StoreReport(folder, images, len(shards), size, day, damaged, len(list(folder.glob(".*.tmp"))))


def _last_used(folder: Path) -> float:
    """The time when features were last read or written: to open a store touches its folder."""
    return folder.stat().st_mtime
