"""Survey, verify and prune the feature store."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedtransfer.common.errors import UserError
from fedtransfer.common.features.store import open_shard

_ABANDONED_SECONDS = 3600.0  # a temporary file this old belongs to a writer that was killed


@dataclass(frozen=True)
class StoreReport:
    """The features of one backbone at one resolution.

    Attributes:
        path: their folder.
        images, shards, bytes: their numbers, and the size of all shards.
        last_used: day of the last read or write.
        damaged: the number of shards that were set aside or, if they were verified, fail their
            checksum.
        leftovers: the number of temporary files of killed writers.
    """

    path: Path
    images: int
    shards: int
    bytes: int
    last_used: str
    damaged: int
    leftovers: int


def survey_store(root: Path, *, verify: bool) -> list[StoreReport]:
    """Report on the features of every backbone below ``root``.

    With ``verify``, check each shard's SHA-256.
    """
    if not root.exists():
        return []
    if not root.is_dir():
        raise UserError(f"feature store {root}: not a folder")
    return [_report(folder, verify) for folder in _folders(root)]


def prune_store(
    root: Path, *, backbone: str = "", unused_days: int = 0, dry_run: bool = False
) -> list[tuple[Path, int]]:
    """Remove damaged files, leftovers, and the folders that the options name.

    Return the files with their sizes.
    """
    now = time.time()
    files: list[Path] = []
    for folder in _folders(root):
        old = unused_days and now - _last_used(folder) > unused_days * 86400
        if (backbone and backbone in folder.name) or old:
            files += [file for file in folder.iterdir() if file.suffix in (".npy", ".damaged", ".tmp")]
        else:
            files += folder.glob("*.damaged")
            files += [file for file in folder.glob(".*.tmp") if now - file.stat().st_mtime > _ABANDONED_SECONDS]
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
    """Return the time when the folder's features were last read or written.

    To open a store touches its folder.
    """
    return folder.stat().st_mtime
