"""Tables of the documentation, made of the CSV files under docs/results: ``python tools/docs_tables.py``.

A table stands between two comments, and the first says in TOML what it is made of:

    <!-- table
    csv = "results/heads.csv"
    down = ["method"]           # columns of the file that name a row
    across = "setting"          # whose values are the other columns
    cell = "accuracy"           # what stands in them; or of their columns, as in "{nll:.3f} nats"
    names = {iid = "10, iid"}   # what values of these are called
    -->
    | method | 10, iid |
    …
    <!-- end of table -->

Without ``across`` a row of the file is a row, and ``cells`` is header → what stands there.
"""

import csv
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

from pydantic import Field, ValidationError

from fedtransfer.common.config.toml_settings import Table
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import write_whole

_BLOCK = re.compile(r"(<!-- table\n(?P<toml>.*?)-->\n).*?(<!-- end of table -->)", re.DOTALL)
_NOTHING = "–"
Row = Mapping[str, str]


class Layout(Table):
    """How a table is made of a CSV file.

    Attributes:
        csv: the file, from the page's folder.
        down, across: columns of it that name rows, and the one that names columns.
        cell, cells: what stands in them: ``accuracy`` (%, with its interval), ``rounds`` (with kB, and how many seeds got there),
            or text with columns in braces, with Python's format specification; ``:2p`` is percent with two digits, ``:+2p`` with its sign.
        names: what values of ``down`` and ``across`` are called.
        only_named: leave out rows whose first name is not among ``names``, and keep to the order there.
        leave_out: values of ``down`` that get no row.
        corner: header of the first columns.
    """

    csv: str
    down: list[str] = Field(min_length=1)
    across: str = ""
    cell: str = ""
    cells: dict[str, str] = Field(default_factory=dict)
    names: dict[str, str] = Field(default_factory=dict)
    only_named: bool = False
    leave_out: list[str] = Field(default_factory=list)
    corner: list[str] = Field(min_length=1)


def rewritten(page: Path) -> str:
    """Return a page's text with its tables made anew.

    Raises:
        UserError: a table's comment is wrong, or its file lacks a column.
    """

    def table(match: re.Match[str]) -> str:
        try:
            layout = Layout.model_validate(tomllib.loads(match["toml"]))
            return match[1] + "\n".join(_lines(layout, _read(page.parent / layout.csv))) + "\n" + match[3]
        except (tomllib.TOMLDecodeError, ValidationError, OSError) as error:
            raise UserError(f"{page}: a table's comment: {error}") from None
        except KeyError as error:
            raise UserError(f"{page}: {layout.csv} has no column {error}") from None

    return _BLOCK.sub(table, page.read_text("utf-8"))


def sources(page: Path) -> list[str]:
    """Return the files that a page's tables are made of."""
    return [tomllib.loads(match["toml"])["csv"] for match in _BLOCK.finditer(page.read_text("utf-8"))]


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _lines(layout: Layout, rows: Sequence[Row]) -> list[str]:
    keys = list(dict.fromkeys(tuple(row[column] for column in layout.down) for row in rows))
    keys = [key for key in keys if not {*key} & {*layout.leave_out}]
    if layout.only_named:
        order = list(layout.names)
        keys = sorted((key for key in keys if key[0] in order), key=lambda key: order.index(key[0]))
    of_key = {key: [row for row in rows if tuple(row[column] for column in layout.down) == key] for key in keys}
    if layout.across:
        columns = list(dict.fromkeys(row[layout.across] for row in rows))
        headers = [layout.names.get(column, column) for column in columns]
        cells = {
            key: [_cell(layout.cell, next((r for r in mine if r[layout.across] == column), None)) for column in columns]
            for key, mine in of_key.items()
        }
    else:
        headers = list(layout.cells)
        cells = {key: [_cell(cell, mine[0]) for cell in layout.cells.values()] for key, mine in of_key.items()}
    named = {key: [layout.names.get(value, value) for value in key] for key in keys}
    ruled = "|" + "---|" * (len(layout.down) + len(headers))
    return [_line([*layout.corner, *headers]), ruled, *(_line([*named[key], *cells[key]]) for key in keys)]


def _line(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def _cell(cell: str, row: Row | None) -> str:
    if row is None:
        return _NOTHING
    if cell == "accuracy":
        return _format("{accuracy:1p} ± {accuracy_interval:1p}" if row["accuracy_interval"] else "{accuracy:1p}", row)
    if cell == "rounds":
        some = " ({reached} of {seeds})" if row["reached"] != row["seeds"] else ""
        return _format(
            "{rounds:,.0f}, {kilobytes:,.0f}" + some,
            {**row, "kilobytes": row["bytes"] and str(float(row["bytes"]) / 1000)},
        )
    return _format(cell, row)


def _format(text: str, row: Row) -> str:
    """Fill a row's columns in; a dash where one is empty."""
    used = [name for _, name, _, _ in Formatter().parse(text) if name]
    return _NOTHING if not all(row[name] for name in used) else _Columns().vformat(text, (), row)


class _Columns(Formatter):
    """Formats columns as numbers where a specification is given; ``p`` stands for percent."""

    def format_field(self, value: Any, format_spec: str) -> str:
        """Format one column."""
        if format_spec.endswith("p"):
            sign, digits = ("+", format_spec[1:-1]) if format_spec[0] == "+" else ("", format_spec[:-1])
            return f"{100 * float(value):{sign}.{digits}f}"
        return f"{float(value):{format_spec}}" if format_spec else str(value)


def pages(root: Path) -> list[Path]:
    """Return the pages of the documentation."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


if __name__ == "__main__":
    for each in pages(Path.cwd()):
        if (text := rewritten(each)) != each.read_text("utf-8"):
            write_whole(each, text)
            print(f"{each}: tables made anew")
