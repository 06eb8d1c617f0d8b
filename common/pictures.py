"""Write figures as PNG files."""

import warnings
from pathlib import Path
from typing import Any


def save_figure(figure: Any, path: Path) -> None:
    """Write a Matplotlib figure; letters that its font lacks are drawn as boxes, without a warning for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(path, dpi=110)
