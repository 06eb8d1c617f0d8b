"""Write figures as PNG files."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_NAMES = 60  # rows or columns beyond this number are not named …
_MOST_NUMBERS = 400  # … and cells have no numbers in them


def save_figure(figure: Any, path: Path) -> None:
    """Write a Matplotlib figure as PNG; letters its font lacks become boxes, without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(path, dpi=110)


def save_heat_map(
    path: Path, numbers: NDArray[np.int64], rows: Sequence[str], columns: Sequence[str], title: str,
    labels: tuple[str, str],
) -> None:  # fmt: skip
    """Draw a matrix of counts, each shaded by its share of the row, with the numbers if they fit.

    Args:
        path: the PNG file to write.
        numbers: counts, (rows, columns).
        rows, columns: names from top to bottom, and from left to right.
        title: what is counted.
        labels: names of the two axes, columns first.
    """
    from matplotlib.figure import Figure

    shares = numbers / np.maximum(numbers.sum(1, keepdims=True), 1)
    size = (min(20.0, 3.5 + 0.55 * len(columns)), min(20.0, 1.8 + 0.4 * len(rows)))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set(title=title, xlabel=labels[0], ylabel=labels[1])
    if len(columns) <= _MOST_NAMES:
        axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    if len(rows) <= _MOST_NAMES:
        axes.set_yticks(range(len(rows)), rows)
    if numbers.size <= _MOST_NUMBERS:
        for (row, column), number in np.ndenumerate(numbers):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(number), ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(picture, ax=axes, label="share of the row")
    save_figure(figure, path)
