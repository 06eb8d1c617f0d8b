"""The one answer to "is it durable?": files that survive a kill, a full disk and a power cut.

``write_whole`` and ``replacement`` replace a file in one step: a reader finds the old file or the
new one, never a part, and so does whoever starts after a power cut. ``append_line`` adds a line of
JSON to a ledger, and ``read_lines`` reads one back. A power cut can leave half a line, or zeros, at
the end of a ledger; the next ``append_line`` ends such a line and marks it as torn. ``write_round``
writes the arrays of a round to a file whose name has a hash of its content.

All of them flush to the disk before they return. Only what nobody would miss skips that
(``durable=False``): after a power cut a simulation is run again.
"""

import hashlib
import io
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.text import size

Row = Mapping[str, Any]
_TORN = b" torn\n"  # ends a line that a power cut tore
_PREFIX = ".writing-"
LEAST_FREE_BYTES = 50_000_000  # a disk with less is as good as full: a checkpoint may need as much
ABANDONED_SECONDS = 3600.0  # a temporary file this old belongs to a writer that was killed
_BLOCK = 4096
_ROUND = re.compile(r"round-(\d{6,})\.([0-9a-f]{16})\.npz")  # … and the start of the SHA-256 of the file


def cache_folder(name: str) -> Path:
    """Return the user's cache of features, networks or data sets, below ``$XDG_CACHE_HOME``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fedtransfer" / name


@contextmanager
def private_files() -> Iterator[None]:
    """Keep from other users the files that the body makes, its child processes' files too."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def replacement(
    path: Path, *, mode: int = 0o666, suffix: str = ".tmp", durable: bool = True
) -> Iterator[Path]:
    """Yield an empty temporary file next to ``path``, which replaces ``path`` once it is written.

    If the body raises, ``path`` stays as it was. A killed writer leaves its temporary file behind;
    a later writer in the same folder removes it after an hour.

    Args:
        path: the file to replace; its folder must exist.
        mode: permissions of the file, less the umask; they hold from its first byte on.
        suffix: ends the temporary file's name, for writers that choose a format by it.
        durable: whether it is on the disk on return; if not, it survives a kill and no power cut.

    Raises:
        OSError: the file cannot be written; ``path`` is as it was.

    Example:
        >>> with replacement(Path("model.keras"), suffix=".keras") as temporary:
        ...     model.save(temporary)
    """
    with replacements({path: mode}, suffix, durable=durable) as [temporary]:
        yield temporary


@contextmanager
def replacements(
    modes: Mapping[Path, int], suffix: str = ".tmp", *, durable: bool = True
) -> Iterator[list[Path]]:
    """Yield a temporary file for each path; none is replaced before all are on the disk."""
    temporaries = []
    try:
        for path, mode in modes.items():
            _remove_abandoned(path.parent)
            temporary = path.with_name(f"{_PREFIX}{secrets.token_hex(8)}{suffix}")
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
            temporaries.append(temporary)
        yield temporaries
        for temporary in temporaries if durable else ():
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
        for temporary, path in zip(temporaries, modes, strict=True):
            os.replace(temporary, path)
    except BaseException:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)
        raise
    for folder in {path.parent for path in modes} if durable else ():
        _sync_folder(folder)


def write_whole(path: Path, content: str | bytes | memoryview, *, mode: int = 0o666) -> None:
    """Replace a file by bytes, or text as UTF-8, in one step; on return the new one is on the disk.

    Arguments and errors are those of ``replacement``.
    """
    with replacement(path, mode=mode) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def full_disk(folder: Path) -> Iterator[str]:
    """Yield a sentence if a folder's disk is nearly full."""
    if (free := shutil.disk_usage(folder).free) < LEAST_FREE_BYTES:
        left = f"{size(free)} are left, expected {size(LEAST_FREE_BYTES)} or more"
        yield f"the disk of {folder} is full: {left}; make room"


def is_empty(folder: Path) -> bool:
    """Whether a folder holds no file, except temporary ones of writers that were killed."""
    return all(path.name.startswith(_PREFIX) for path in folder.iterdir())


@dataclass(frozen=True)
class Line:
    """A line of a ledger."""

    content: bytes  # its bytes with the newline, which the last line of a file may lack

    @cached_property
    def row(self) -> dict[str, Any] | None:
        """The JSON object in the line; None if the line was torn or damaged."""
        try:
            row = json.loads(self.content)
        except ValueError:
            return None
        return row if isinstance(row, dict) else None

    @property
    def is_torn(self) -> bool:
        """Whether a power cut, a kill or a full disk tore the line: its writer never returned."""
        return self.content.endswith(_TORN) or (not self.content.endswith(b"\n") and self.row is None)

    @property
    def ending(self) -> bytes:
        """What the line needs to be complete: nothing, a newline, or the mark of a torn line."""
        if not self.content or self.content.endswith(b"\n"):
            return b""
        return _TORN if self.row is None else b"\n"


def append_line(path: Path, row: Row | Callable[[bytes], Row], *, durable: bool = True) -> bytes:
    """Append a JSON object to a ledger, after ending a torn last line; return its line.

    Processes take turns.

    Args:
        path: the ledger, which is made if it is missing; its folder must exist.
        row: the object, or a function that makes it of the last line (b"" in a new ledger).
        durable: the line is on the disk on return. Only a simulated site's ledger does without:
            after a power cut the simulation is run again, and a flush for each reply would cost
            more than the reply.

    Raises:
        OSError: the line cannot be written; what it accounts for must not happen.
    """
    with path.open("a+b") as file, FileLock(_lock(path)):
        last = _last_line(file)
        line = json.dumps(row(last.content + last.ending) if callable(row) else row).encode() + b"\n"
        file.write(last.ending + line)
        file.flush()
        if durable:
            os.fsync(file.fileno())
            if not last.content:
                _sync_folder(path.parent)
    return line


def read_lines(path: Path) -> Iterator[Line]:
    """Yield a ledger's lines, oldest first, torn and damaged ones too; none without the file."""
    if path.exists():
        with path.open("rb") as file:
            yield from map(Line, file)


def rename_ledger(old: Path, new: Path) -> None:
    """Rename a ledger that still has the name of an earlier version; on return that is on the disk.

    Raises:
        UserError: there are ledgers of both names, or the ledger cannot be renamed.
    """
    if not old.exists():
        return
    try:
        with FileLock(_lock(new)):
            if not old.exists():  # another process has renamed it meanwhile
                return
            if new.exists():
                raise UserError(
                    f"{new.parent}: got {old.name} and {new.name}; expected one of them, for each says what "
                    f"was spent. Append the lines of {old.name} to {new.name}, then remove {old.name}"
                )
            os.rename(old, new)
            _sync_folder(new.parent)
    except OSError as error:
        raise UserError(
            f"{old}: cannot be renamed to {new.name}: {error.strerror}; give write access to {new.parent}"
        ) from None


def _lock(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _last_line(file: BinaryIO) -> Line:
    """Read the last line from the end of the file, since a ledger may be long."""
    size, length = file.seek(0, os.SEEK_END), _BLOCK
    while True:
        file.seek(max(0, size - length))
        content = file.read()
        start = content.rfind(b"\n", 0, -1) + 1
        if start or length >= size:
            return Line(content[start:])
        length *= 8


def _remove_abandoned(folder: Path) -> None:
    for temporary in folder.glob(f"{_PREFIX}*"):
        try:
            if time.time() - temporary.stat().st_mtime > ABANDONED_SECONDS:
                temporary.unlink()
        except FileNotFoundError:  # another writer has removed or renamed it
            pass


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder durable; file systems that cannot sync a folder do without."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def write_round(folder: Path, round: int, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a round's arrays by name. An OSError leaves files of earlier rounds as they were."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()[:16]
    write_whole(folder / f"round-{round:06}.{digest}.npz", buffer.getbuffer())


def round_files(folder: Path) -> list[tuple[int, Path]]:
    """List the files in a folder with their rounds, oldest first; none if the folder is missing."""
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted((int(match[1]), folder / name) for name in names if (match := _ROUND.fullmatch(name)))


def read_round(path: Path) -> dict[str, NDArray[Any]] | None:
    """Read a file's arrays by name; None if its content does not match the hash in its name."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest()[:16] != path.name.split(".")[1]:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
