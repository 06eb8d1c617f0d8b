"""Features files of each kind, as other programs write them."""

import csv
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

KINDS = ("npz", "h5", "parquet", "csv")
CARD = {"name": "uni2-h", "width": 4, "version": "1.0"}
DEFAULT: Any = object()


def vectors(rows: int, width: int = 4, seed: int = 0) -> np.ndarray:
    """Features of three classes that a head can tell apart."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(rows, width)) + 4 * np.eye(3, width)[np.arange(rows) % 3]).astype(np.float32)


def columns(rows: int, **more: Any) -> dict[str, Any]:
    """Ids and labels of rows, and more columns; None leaves one out."""
    texts = {"id": [f"slide/{i}.svs" for i in range(rows)], "label": ["abc"[i % 3] for i in range(rows)]}
    return {name: values for name, values in (texts | more).items() if values is not None}


def write(path: Path, x: Any, card: Any = DEFAULT, **more: Any) -> Path:
    """Write a features file of the kind that its name says; ``more`` replaces columns."""
    text = card if card is None or isinstance(card, str) else json.dumps(CARD if card is DEFAULT else card)
    texts = columns(len(x), **more)
    {".npz": _npz, ".h5": _h5, ".parquet": _parquet, ".csv": _csv}[path.suffix](path, x, text, texts)
    return path


def _npz(path: Path, x: Any, card: str | None, texts: dict[str, Any]) -> None:
    np.savez(path, features=x, **texts, **({"fedtransfer": card} if card else {}))


def _h5(path: Path, x: Any, card: str | None, texts: dict[str, Any]) -> None:
    with h5py.File(path, "w") as file:
        file["features"] = x
        for name, values in texts.items():
            file[name] = values
        if card:
            file.attrs["fedtransfer"] = card


def _parquet(path: Path, x: Any, card: str | None, texts: dict[str, Any]) -> None:
    table = pa.table({**texts, "features": [*x]})
    pq.write_table(
        table.replace_schema_metadata({"fedtransfer": card} if card else {}), path, row_group_size=7
    )


def _csv(path: Path, x: Any, card: str | None, texts: dict[str, Any]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        if card:
            file.write(f"# {card}\n")
        table = csv.writer(file)
        table.writerow([*texts, *(f"f{i}" for i in range(np.shape(x)[1]))])
        table.writerows(
            [*row, *values] for *row, values in zip(*texts.values(), np.asarray(x).tolist(), strict=True)
        )
