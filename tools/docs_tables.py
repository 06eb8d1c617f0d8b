"""Tables of the documentation, from the CSV files in docs/results.

A table is between two comments. The first describes it in TOML:

    <!-- table
    csv = "results/heads.csv"
    down = ["method"]           # columns of the file that name a row
    across = "setting"          # the column whose values name the other columns
    cell = "accuracy"           # content of a cell; or a text of columns, as in "{nll:.3f} nats"
    names = {iid = "10, iid"}   # value → its name in the table
    -->
    | method | 10, iid |
    …
    <!-- end of table -->

Without ``across``, a row of the file is a row of the table, and ``cells`` is header → content.
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
    """The layout of a table from a CSV file.

    Attributes:
        csv: the file, relative to the page's folder.
        down, across: the columns of the file that name rows, and the one that names columns.
        cell, cells: contents: ``accuracy`` (%, with its interval), ``rounds`` (with kB, and the
            number of seeds that got there), or text with columns in braces and Python's format
            specification; ``:2p`` is percent with two digits, ``:+2p`` the same with its sign.
        names: value of ``down`` or ``across`` → its name in the table.
        only_named: leave out rows whose first value is not in ``names``, and keep to its order.
        leave_out: values of ``down`` without a row.
        corner: headers of the first columns.
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
    """Return a page's text with its tables written from their files.

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
    """Return the CSV files of a page's tables."""
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
    of_key = {
        key: [row for row in rows if tuple(row[column] for column in layout.down) == key] for key in keys
    }
    if layout.across:
        columns = list(dict.fromkeys(row[layout.across] for group in of_key.values() for row in group))
        headers = [layout.names.get(column, column) for column in columns]
        cells = {
            key: [
                _cell(layout.cell, next((r for r in group if r[layout.across] == name), None))
                for name in columns
            ]
            for key, group in of_key.items()
        }
    else:
        headers = list(layout.cells)
        cells = {
            key: [_cell(cell, group[0]) for cell in layout.cells.values()] for key, group in of_key.items()
        }
    named = {key: [layout.names.get(value, value) for value in key] for key in keys}
    ruled = "|" + "---|" * (len(layout.down) + len(headers))
    return [_line([*layout.corner, *headers]), ruled, *(_line([*named[key], *cells[key]]) for key in keys)]


def _line(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def _cell(cell: str, row: Row | None) -> str:
    if row is None:
        return _NOTHING
    if cell == "accuracy":
        return _format(
            "{accuracy:1p} ± {accuracy_interval:1p}" if row["accuracy_interval"] else "{accuracy:1p}", row
        )
    if cell == "rounds":
        some = " ({reached} of {seeds})" if row["reached"] != row["seeds"] else ""
        return _format(
            "{rounds:,.0f}, {kilobytes:,.0f}" + some,
            {**row, "kilobytes": row["bytes"] and str(float(row["bytes"]) / 1000)},
        )
    return _format(cell, row)


def _format(text: str, row: Row) -> str:
    """Return the text with a row's columns filled in; a dash if one is empty."""
    used = [name for _, name, _, _ in Formatter().parse(text) if name]
    return _NOTHING if not all(row[name] for name in used) else _Columns().vformat(text, (), row)


class _Columns(Formatter):
    """Formats columns with a specification as numbers; ``p`` means percent."""

    def format_field(self, value: Any, format_spec: str) -> str:
        """Format one column."""
        if format_spec.endswith("p"):
            sign, digits = ("+", format_spec[1:-1]) if format_spec[0] == "+" else ("", format_spec[:-1])
            return f"{100 * float(value):{sign}.{digits}f}"
        return f"{float(value):{format_spec}}" if format_spec else str(value)


def pages(root: Path) -> list[Path]:
    """Return the pages of the documentation that may have tables."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


if __name__ == "__main__":
    for each in pages(Path.cwd()):
        if (text := rewritten(each)) != each.read_text("utf-8"):
            write_whole(each, text)
            print(f"{each}: tables updated")
