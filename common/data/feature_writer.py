"""Writers of the four kinds of features files, block by block."""

import csv
import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.data.feature_card import FeatureCard
from fedtransfer.common.data.feature_readers import CARD, FEATURES
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import replacement

Columns = Mapping[str, Sequence[str]]  # ``id``, ``label``, … → a text a row
Blocks = Iterable[NDArray[np.float32]]  # vectors (rows, d), in order


def write_features(path: Path, card: FeatureCard, columns: Columns, blocks: Blocks) -> None:
    """Write a features file, whole or not at all, of the kind that its name says.

    Raises:
        UserError: the name says no such kind, or Parquet cannot be written here.
    """
    check_kind(path)
    with replacement(path) as temporary:
        _WRITERS[path.suffix.lower()](temporary, card, columns, blocks)


def check_kind(path: Path) -> None:
    """Raise a UserError unless a file's name ends in a kind of features file."""
    if path.suffix.lower() not in _WRITERS:
        raise UserError(f"{path}: expected a file name that ends in {', '.join(_WRITERS)}")
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise UserError(
                f"{path}: pip install 'fedtransfer[parquet]' to write Parquet, or write an .h5 file"
            ) from None


def _write_npz(path: Path, card: FeatureCard, columns: Columns, blocks: Blocks) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        texts = {CARD: np.array(card.to_json()), **{name: np.array(v) for name, v in columns.items()}}
        for name, array in texts.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            archive.writestr(f"{name}.npy", content.getbuffer())
        with archive.open(f"{FEATURES}.npy", "w", force_zip64=True) as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (card.rows, card.width)}
            np.lib.format.write_array_header_1_0(file, header)
            for block in blocks:
                file.write(np.ascontiguousarray(block, "<f4").data)


def _write_h5(path: Path, card: FeatureCard, columns: Columns, blocks: Blocks) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs[CARD] = card.to_json()
        for name, values in columns.items():
            file.create_dataset(name, data=[*values], dtype=h5py.string_dtype())
        shape, row = (card.rows, card.width), 0
        features = file.create_dataset(FEATURES, shape, "<f4", fletcher32=True)  # checksums
        for block in blocks:
            features[row : row + len(block)] = block
            row += len(block)


def _write_parquet(path: Path, card: FeatureCard, columns: Columns, blocks: Blocks) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [*((name, pa.string()) for name in columns), (FEATURES, pa.list_(pa.float32(), card.width))]
    schema, row = pa.schema(fields, {CARD: card.to_json()}), 0
    with pq.ParquetWriter(path, schema, write_page_checksum=True) as writer:
        for block in blocks:
            texts = [pa.array(values[row : row + len(block)], pa.string()) for values in columns.values()]
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), card.width)
            writer.write_table(pa.table([*texts, vectors], schema=schema))
            row += len(block)


def _write_csv(path: Path, card: FeatureCard, columns: Columns, blocks: Blocks) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# {card.to_json()}\n")
        table, texts = csv.writer(file, lineterminator="\n"), zip(*columns.values(), strict=True)
        table.writerow([*columns, *(f"f{i}" for i in range(card.width))])
        for block in blocks:
            # Nine digits give a float32 back as it was.
            table.writerows([*next(texts), *(f"{value:.9g}" for value in row)] for row in block.tolist())


_WRITERS = {
    ".npz": _write_npz, ".h5": _write_h5, ".hdf5": _write_h5, ".parquet": _write_parquet, ".csv": _write_csv,
}  # fmt: skip
