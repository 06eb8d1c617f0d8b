"""Tables for people, in CSV: the one writer of cells that a spreadsheet does not take for formulas.

A spreadsheet computes a cell that begins with ``=``, ``+``, ``-`` or ``@``, and what it computes
may send data away. An apostrophe before such a text makes it a text. Numbers stay as they are, and
other characters than those that print become escapes. Files that programs read back, such as lists
of images, are not written here.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from fedtransfer.common.support.files import write_whole
from fedtransfer.common.support.text import printable

LONGEST = 32_767  # characters of a cell, in a spreadsheet
_FORMULA = re.compile(r"[=+\-@]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|-?inf", re.ASCII | re.IGNORECASE)


class SheetWriter:
    """Writes rows to an open file; lines end in ``ending``."""

    def __init__(self, file: IO[str], ending: str = "\r\n") -> None:
        self._writer = csv.writer(file, lineterminator=ending)

    def writerow(self, row: Iterable[object]) -> None:
        """Write a row."""
        self._writer.writerow(map(_cell, row))

    def writerows(self, rows: Iterable[Iterable[object]]) -> None:
        """Write several rows."""
        for row in rows:
            self.writerow(row)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Replace a file by a table as ``write_whole`` does; lines end in a line feed."""
    text = io.StringIO()
    SheetWriter(text, "\n").writerows([header, *rows])
    write_whole(path, text.getvalue())


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = printable(value, LONGEST)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text
