"""Tables of the Python interface, and a run's page in a notebook, for light and dark themes."""

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, EDGE = 360, 140, 34


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
    return table_of({name: _column([row[name] for row in rows]) for name in names} or {"empty": []})


def _column(values: Sequence[Any]) -> Sequence[Any]:
    if all(str(value).isdecimal() for value in values):
        return [int(value) for value in values]
    try:
        return [nan if value in ("", None) else float(value) for value in values]
    except ValueError:
        return [str(value) for value in values]


def run_page(title: str, facts: Mapping[str, str], history: Table) -> str:
    """Return a heading, an HTML table of facts and two curves as inline SVG; it loads nothing."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td>{escape(text)}</td></tr>"
        for name, text in facts.items()
    )
    scored = history[np.isin(history["phase"], ("train", "score"))]
    curves = "".join(_curve(name, scored["round"], scored[name]) for name in ("accuracy", "validation_loss"))
    flow = "display:flex;flex-wrap:wrap;gap:1em"
    return f"<div><b>{escape(title)}</b><div style='{flow}'><table>{rows}</table>{curves}</div></div>"


def _curve(name: str, x: NDArray[Any], y: NDArray[Any]) -> str:
    """Return a curve as SVG, without rounds that have no value; "" for fewer than two points."""
    pairs = zip(x.tolist(), y.tolist(), strict=True)
    points = [(a, float(b)) for a, b in pairs if isinstance(b, float | int) and isfinite(b)]
    if len(points) < 2:
        return ""
    name = name.replace("_", " ")
    left, right, low, high = points[0][0], points[-1][0], min(b for _, b in points), max(b for _, b in points)
    across, up = (WIDTH - EDGE - 6) / (right - left), (HEIGHT - 2 * 18) / (high - low or 1)
    bottom = HEIGHT - 18
    path = " ".join(f"{EDGE + (a - left) * across:.1f},{bottom - (b - low) * up:.1f}" for a, b in points)
    labels = "".join(
        f"<text x='{left_edge}' y='{height}' text-anchor='{anchor}'>{text}</text>"
        for left_edge, height, anchor, text in (
            (EDGE, 11, "start", name), (EDGE - 4, 24, "end", f"{high:.2f}"),
            (EDGE - 4, bottom, "end", f"{low:.2f}"), (EDGE, HEIGHT - 4, "start", f"round {left:g}"),
            (WIDTH - 6, HEIGHT - 4, "end", f"{right:g}"),
        )
    )  # fmt: skip
    style = "fill='currentColor' font-size='10' font-family='sans-serif'"
    line = f"<polyline points='{path}' fill='none' stroke='#2f7fc1' stroke-width='2'/>"
    size = f"width='{WIDTH}' height='{HEIGHT}'"
    return f"<svg {size} role='img' aria-label='{name} by round' {style}>{labels}{line}</svg>"
