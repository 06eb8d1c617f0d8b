"""Readers of the four kinds of features files: .npz, .h5, .parquet and .csv.

Each returns ``Contents``: columns of text as lists, and vectors that are read in blocks of rows.
"""

import csv
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.errors import UserError

CARD, FEATURES = "fedtransfer", "features"
TEXTS = ("id", "label", "group", "split", "site")
Read = Callable[[int, int], NDArray[Any]]
_NUMBERED = re.compile(r"f?(\d+)")
_CSV_ROWS = 1024  # rows of text that are made numbers at a time
_BUFFER = 2**20  # bytes of a Parquet column in memory; else all of a row group are


@dataclass(frozen=True)
class Contents:
    """The contents of a features file."""

    card: str | None  # the JSON text that says what made the features
    columns: dict[str, list[str]]  # those of ``TEXTS`` that the file has; "" for a missing value
    rows: int
    width: int
    read: Read  # (start, stop) → vectors (stop - start, width), real numbers


def read_npz(path: Path) -> Contents:
    """Read an .npz archive with the arrays ``id``, ``label``, …, and ``features`` (n, d)."""
    archive = zipfile.ZipFile(path)
    names = {name.removesuffix(".npy") for name in archive.namelist()}
    if FEATURES not in names:
        raise UserError(f"{path}: no array features in it (it has {', '.join(sorted(names)) or 'none'})")
    with np.load(path, allow_pickle=False) as arrays:
        texts = {name: arrays[name] for name in TEXTS if name in names}
        card = str(arrays[CARD]) if CARD in names else None
    stream = archive.open(f"{FEATURES}.npy")
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_column, dtype = header(stream)
    rows, width = _matrix_shape(shape, dtype, path)
    begin, size = stream.tell(), width * dtype.itemsize

    def read(start: int, stop: int) -> NDArray[Any]:
        stream.seek(begin + start * size)
        content = stream.read((stop - start) * size)
        return np.frombuffer(content, dtype).reshape(stop - start, width)

    if by_column:  # the numbers of a row are not next to each other
        with np.load(path, allow_pickle=False) as arrays:
            whole = arrays[FEATURES]
        read = lambda start, stop: whole[start:stop]  # noqa: E731
    columns = {name: _texts(array.ravel().tolist()) for name, array in texts.items()}
    return Contents(card, columns, rows, width, read)


def read_h5(path: Path) -> Contents:
    """Read an HDF5 file with the data sets ``id``, ``label``, …, and ``features`` (n, d)."""
    import h5py

    file = h5py.File(path)
    if FEATURES not in file:
        raise UserError(f"{path}: no data set features in it (it has {', '.join(file) or 'none'})")
    features = file[FEATURES]
    rows, width = _matrix_shape(features.shape, features.dtype, path)
    card = file.attrs.get(CARD)
    columns = {name: _texts(np.asarray(file[name]).ravel().tolist()) for name in TEXTS if name in file}
    card = card.decode() if isinstance(card, bytes) else card
    return Contents(card, columns, rows, width, lambda start, stop: features[start:stop])


def read_csv(path: Path) -> Contents:
    """Read a CSV file with the columns ``id``, ``label``, …, and ``f0`` to ``f(d-1)``, or 0 to d-1.

    Its first line may be ``# `` and the card. Its numbers are held in memory.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        first = file.readline()
        card = first[1:].strip() if first.startswith("#") else None
        table = csv.reader(file if card is not None else _with(first, file))
        header = next(table, [])
        numbers = numbered(header, path)
        positions = {name: header.index(name) for name in TEXTS if name in header}
        columns: dict[str, list[str]] = {name: [] for name in positions}
        blocks: list[NDArray[np.float32]] = []
        rows = 0
        while block := list(islice(table, _CSV_ROWS)):
            for number, row in enumerate(block, rows + 1):
                if len(row) != len(header):
                    raise UserError(
                        f"{path}, row {number}: {len(row)} values, but its header names {len(header)}; "
                        "was the file cut short?"
                    )
            for name, at in positions.items():
                columns[name] += [row[at] for row in block]
            blocks.append(_numbers(block, numbers, rows, path))
            rows += len(block)
        _refuse_unfinished(path)
    vectors = np.concatenate(blocks) if blocks else np.empty((0, len(numbers)), np.float32)
    return Contents(card, columns, rows, len(numbers), lambda start, stop: vectors[start:stop])


def read_parquet(path: Path) -> Contents:
    """Read a Parquet file: columns ``id``, ``label``, …, and ``features`` or f0 to f(d-1)."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UserError(
            f"{path}: a Parquet file; pip install 'fedtransfer[parquet]' to read it, or write an .h5 file"
        ) from None
    file = pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False, buffer_size=_BUFFER)
    schema, card = file.schema_arrow, (file.schema_arrow.metadata or {}).get(CARD.encode())
    if FEATURES in schema.names:
        names, kind = [FEATURES], schema.field(FEATURES).type
        lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        kinds = [kind.value_type] if lists else []
        if not lists:
            raise UserError(f"{path}: features are {kind}; expected a list of real numbers in each row")
    else:
        names = [schema.names[at] for at in numbered(schema.names, path)]
        kinds = [schema.field(name).type for name in names]
    for kind in kinds:
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise UserError(f"{path}: features are of type {kind}; expected real numbers")
    vectors = _ParquetRows(file, names, path)
    texts = file.read(columns=[name for name in TEXTS if name in schema.names])
    columns = {name: _texts(texts[name].to_pylist()) for name in texts.column_names}
    text = card.decode() if card else None
    return Contents(text, columns, file.metadata.num_rows, vectors.width, vectors)


READERS = {
    ".npz": read_npz, ".h5": read_h5, ".hdf5": read_h5, ".parquet": read_parquet, ".csv": read_csv,
}  # fmt: skip


class _ParquetRows:
    """Vectors of a Parquet file, which can only be read forwards, from the start of a row group."""

    def __init__(self, file: Any, names: Sequence[str], path: Path) -> None:
        self._file, self._names, self._path = file, names, path
        groups = (file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups))
        self._starts = [0, *accumulate(groups)]
        self.width = len(names) if names != [FEATURES] else 0
        self.width = next(self._read_from(0, 1), np.empty((0, 0))).shape[1]
        self._at, self._pieces = 0, self._read_from(0)
        self._rest: NDArray[Any] = np.empty((0, 0))

    def __call__(self, start: int, stop: int) -> NDArray[Any]:
        if start != self._at:
            group = max(i for i, begin in enumerate(self._starts) if begin <= start)
            self._at, self._pieces, self._rest = self._starts[group], self._read_from(group), np.empty((0, 0))
            self(self._at, start)
        parts, missing = [], stop - start
        while missing:
            if not len(self._rest):
                self._rest = next(self._pieces)
            parts.append(self._rest[:missing])
            missing -= len(parts[-1])
            self._rest = self._rest[len(parts[-1]) :]
        self._at = stop
        return np.concatenate(parts) if parts else np.empty((0, 0))

    def _read_from(self, group: int, rows: int = 1024) -> Iterator[NDArray[Any]]:
        row = self._starts[group]
        groups = range(group, len(self._starts) - 1)
        for batch in self._file.iter_batches(rows, groups, self._names):
            yield self._matrix(batch, row)
            row += len(batch)

    def _matrix(self, batch: Any, row: int) -> NDArray[Any]:
        if self._names != [FEATURES]:
            return np.stack([column.to_numpy(zero_copy_only=False) for column in batch.columns], 1)
        import pyarrow.compute as pc

        lists = batch.column(0)
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
        width = self.width or max(1, int(lengths[0]))
        if len(wrong := np.flatnonzero(lengths != width)):
            at = int(wrong[0])
            raise UserError(f"{self._path}, row {row + at + 1}: {lengths[at]} features; expected {width}")
        return lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), width)


def numbered(names: Sequence[str], path: Path) -> list[int]:
    """Return the positions of the columns ``f0`` to ``f(d-1)``, or ``0`` to ``d-1``, in this order.

    Raises:
        UserError: there are none, or one is missing.
    """
    places = {int(match[1]): at for at, name in enumerate(names) if (match := _NUMBERED.fullmatch(name))}
    if not places:
        some = ", ".join(names[:10]) or "none"
        raise UserError(f"{path}: no column of features in it (it has {some}); expected f0, f1, … or 0, 1, …")
    if missing := sorted(set(range(len(places))) - set(places)):
        raise UserError(f"{path}: it has {len(places)} columns of features, but no f{missing[0]}")
    return [places[i] for i in range(len(places))]


def _matrix_shape(shape: tuple[int, ...], dtype: Any, path: Path) -> tuple[int, int]:
    """Return the shape of features. Raises UserError: they are not real numbers (n, d)."""
    if len(shape) != 2 or np.dtype(dtype).kind not in "fiu":
        expected = "expected real numbers of shape (n, d)"
        raise UserError(f"{path}: features are {dtype} of shape {shape}; {expected}")
    return shape[0], shape[1]


def _texts(values: Iterable[Any]) -> list[str]:
    """Return values as text: bytes as UTF-8, None and NaN as "", whole numbers without a point."""
    same: dict[Any, str] = {}

    def text(value: Any) -> str:
        if isinstance(value, bytes):
            return value.decode()
        if value is None or value != value:
            return ""
        return str(int(value) if isinstance(value, float) and value.is_integer() else value)

    return [same.get(value) or same.setdefault(value, text(value)) for value in values]


def _with(line: str, rest: Iterable[str]) -> Iterator[str]:
    yield line
    yield from rest


def _numbers(
    block: list[list[str]], positions: Sequence[int], before: int, path: Path
) -> NDArray[np.float32]:
    """Convert the columns at some positions. Raises UserError: one is no number."""
    try:
        with np.errstate(over="ignore"):
            return np.array([[row[at] for at in positions] for row in block], np.float32)
    except ValueError:
        for number, row in enumerate(block, before + 1):
            for i, at in enumerate(positions):
                try:
                    float(row[at])
                except ValueError:
                    raise UserError(
                        f"{path}, row {number}: got {row[at][:50]!r} as feature {i}; expected a number"
                    ) from None
        raise


def _refuse_unfinished(path: Path) -> None:
    with path.open("rb") as file:
        file.seek(-1, 2)
        if file.read() not in (b"\n", b"\r"):
            raise UserError(
                f"{path}: its last line has no end, so its last number may be cut short; "
                "write the file again, or end the line"
            )
