"""Tables as CSV files; a reader sees the old file or the new one, never a part."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from fedtransfer.common.support.files import write_whole


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a header and rows as one whole file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_whole(path, text.getvalue())
