"""Tables of the Python interface."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Table(np.ndarray):
    """A NumPy structured array: ``table["accuracy"]`` is a column, ``table[-1]`` a row."""

    def to_pandas(self) -> Any:
        """Return a ``pandas.DataFrame``; pandas must be installed."""
        import pandas

        return pandas.DataFrame({name: np.asarray(self[name]) for name in self.dtype.names or ()})


def table_of(columns: Mapping[str, Sequence[Any]]) -> Table:
    """Make a table from columns of equal length; the values of a column set its type.

    >>> table = table_of({"round": [1, 2], "accuracy": [0.5, 0.75]})
    >>> table["accuracy"].mean().item()
    0.625
    """
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    rows = len(next(iter(arrays.values())))
    table: NDArray[Any] = np.empty(rows, [(name, array.dtype) for name, array in arrays.items()])
    for name, array in arrays.items():
        table[name] = array
    return table.view(Table)


def table_of_rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Make a table from rows of text, as in CSV files.

    Columns of numbers become numbers, with NaN for empty cells.

    >>> rows = [{"phase": "train", "loss": "0.5"}, {"phase": "score", "loss": ""}]
    >>> table_of_rows(rows)["loss"].tolist()
    [0.5, nan]
    """
    names = list(rows[0]) if rows else []
    return table_of({name: _column([row[name] for row in rows]) for name in names}) if rows else table_of({"empty": []})


def _column(values: Sequence[Any]) -> Sequence[Any]:
    if all(str(value).isdecimal() for value in values):
        return [int(value) for value in values]
    try:
        return [float("nan") if value in ("", None) else float(value) for value in values]
    except ValueError:
        return [str(value) for value in values]
