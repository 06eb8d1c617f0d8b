"""Features files: a row an item, with its id, label and vector, and a card of what made them.

A row is named ``FILE#id=ID``. Vectors are read in blocks, so a file may be larger than memory.
"""

import errno
import os
import re
import threading
import zipfile
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.data.feature_card import FeatureCard, read_card
from fedtransfer.common.data.feature_readers import FEATURES, READERS, Contents
from fedtransfer.common.errors import UserError

_ROW = re.compile(r"(?P<file>.+?\.(?:npz|h5|hdf5|parquet|csv))#id=(?P<id>.+)", re.IGNORECASE | re.DOTALL)
_BLOCK_BYTES = 2**23  # of vectors that are read at a time
_BLOCKS = 2  # that stay in memory


class FeatureTable:
    """An open features file. Make one with ``feature_table``."""

    def __init__(self, path: str, card: FeatureCard, contents: Contents) -> None:
        self.path, self.card, self._contents = path, card, contents
        self._block = max(1, _BLOCK_BYTES // (4 * contents.width))
        self._lock = threading.Lock()
        self._recent: dict[int, NDArray[np.float32]] = {}

    def __len__(self) -> int:
        return self._contents.rows

    @property
    def ids(self) -> list[str]:
        """The ids of all rows."""
        return self._contents.columns["id"]

    def column(self, name: str) -> list[str]:
        """Return a column of text, label, group, split or site; "" in each row if it is missing."""
        return self._contents.columns.get(name) or [""] * len(self)

    def has(self, name: str) -> bool:
        """Whether the file has a column of text."""
        return name in self._contents.columns

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.ids)}

    def place(self, name: str) -> int:
        """Return the number of the row with an id, -1 if it is missing."""
        return self._rows.get(name, -1)

    def vector(self, name: str) -> NDArray[np.float32]:
        """Return the features (d,) float32 of the row with an id, NaN and all.

        Raises:
            OSError: there is no such row, or the file cannot be read.
        """
        if (row := self._rows.get(name)) is None:
            raise OSError(errno.ENOENT, f"{self.path} has no row with this id any more")
        number, at = divmod(row, self._block)
        with self._lock:
            if number not in self._recent:
                while len(self._recent) >= _BLOCKS:
                    del self._recent[next(iter(self._recent))]
                self._recent[number] = self._read(number)
            return self._recent[number][at]

    def _read(self, number: int) -> NDArray[np.float32]:
        start = number * self._block
        try:
            vectors = self._contents.read(start, min(start + self._block, len(self)))
        except UserError:
            raise
        except Exception as error:  # the libraries raise many kinds for damaged files
            raise _damaged(self.path, error) from None
        with np.errstate(over="ignore"):  # a number beyond float32 is infinite, and named as such
            return vectors.astype(np.float32)


def row_of(path: str) -> tuple[str, str] | None:
    """Return file and id of a path ``FILE#id=ID``; None for any other path."""
    match = _ROW.fullmatch(path)
    return (match["file"], match["id"]) if match else None


def in_file_order(paths: Sequence[str]) -> list[int]:
    """Return the numbers of the paths, ordered so that features files are read from front to end.

    A block of rows is read at once, and classes are mixed in most files: in the order of the paths
    the same blocks would be read again and again. Rows that are no longer there come first.
    """
    tables = {table.path: table for table in tables_of(paths)}

    def place(number: int) -> tuple[str, int]:
        file, _, row = paths[number].partition("#id=")
        return (file, tables[file].place(row)) if file in tables else ("", 0)

    return sorted(range(len(paths)), key=place)


def tables_of(paths: Iterable[str]) -> list[FeatureTable]:
    """Return the features files that some of the paths are rows of, in name order."""
    beginnings = {path.partition("#id=")[0] for path in paths if "#id=" in path}
    return [feature_table(file) for file in sorted(beginnings) if holds_features(Path(file))]


def holds_features(path: Path) -> bool:
    """Whether a file is a features file, of which only names of columns and arrays are read."""
    match path.suffix.lower():
        case ".h5" | ".hdf5" | ".parquet":
            return path.is_file()
        case ".npz":
            return path.is_file() and f"{FEATURES}.npy" in _members(path)
        case ".csv":
            return path.is_file() and _is_table(path)
    return False


def feature_table(path: str) -> FeatureTable:
    """Open a features file, once for as long as it does not change on disk.

    Raises:
        UserError: it is missing, damaged or empty; it has no card, no features, a row without an
            id, or an id twice; its features are of another width than the card says.
    """
    try:
        changed = os.stat(path).st_mtime_ns
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    return _open(path, changed)


@lru_cache(maxsize=8)
def _open(path: str, changed: int) -> FeatureTable:
    try:
        if not os.path.getsize(path):
            raise UserError(f"{path}: the file is empty")
        contents = READERS[Path(path).suffix.lower()](Path(path))
    except UserError:
        raise
    except Exception as error:  # the libraries raise many kinds for damaged files
        raise _damaged(path, error) from None
    card = read_card(contents.card, path)
    _check(path, card, contents)
    return FeatureTable(path, card, contents)


def _check(path: str, card: FeatureCard, contents: Contents) -> None:
    if not contents.rows:
        raise UserError(f"{path}: no row in it; expected a row an item")
    if contents.width != card.width:
        raise UserError(
            f"{path}: its features have width {contents.width}, but it says that {card.name} made them, with "
            f"width {card.width}; correct what it says, or give the right features"
        )
    if card.rows not in (0, contents.rows):
        raise UserError(
            f"{path}: {contents.rows} rows, but it says that it has {card.rows}; was the file cut short?"
        )
    for name, column in contents.columns.items():
        if len(column) != contents.rows:
            raise UserError(f"{path}: {contents.rows} rows of features, but {len(column)} of {name}")
    if "id" not in contents.columns:
        raise UserError(f"{path}: no id in it; expected an id for each row, such as a file name")
    first: dict[str, int] = {}
    for row, name in enumerate(contents.columns["id"], 1):
        if not name:
            raise UserError(f"{path}, row {row}: the id is missing")
        if first.setdefault(name, row) != row:
            raise UserError(f"{path}: the id {name!r} is there twice, in rows {first[name]} and {row}")


def _damaged(path: str, error: Exception) -> UserError:
    return UserError(
        f"{path}: cannot be read as a {Path(path).suffix} file of features; is it damaged, or cut short? "
        f"({type(error).__name__}: {str(error).strip()[:200]})"
    )


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile):  # the reader of archives says why
        return []


def _is_table(path: Path) -> bool:
    """Whether a CSV file has a card, or an id and no path of an image."""
    with path.open("rb") as file:
        first = file.readline(2**20).decode("utf-8-sig", "replace")
    names = {name.strip().strip('"') for name in first.split(",")}
    return first.startswith("#") or ("id" in names and "path" not in names)


def absolute(path: str) -> str:
    """Return a path as an absolute one; an id stays as it is."""
    row = row_of(path)
    return f"{os.path.abspath(row[0])}#id={row[1]}" if row else os.path.abspath(path)
