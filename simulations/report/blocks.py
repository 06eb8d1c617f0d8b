"""The parts of a page: sections of text, figures, tables and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

from fedtransfer.simulations.report.texts import NONE

ROWS = 50  # of a table; longer ones are shortened, with a note
_IN_A_ROW = 10  # numbers with intervals that fit the page
_ON_A_PHONE = 4  # columns that fit
_LETTERS_OF_A_PHONE = 45  # in a line
_LETTERS_OF_TEXT = 13  # at least in a column of texts


@dataclass(frozen=True)
class Table:
    """A table of texts, the first column naming the rows.

    Attributes:
        note: stands below: what was left out, what the numbers are.
        marked: numbers of rows that are set off.
        texts: whether cells are texts even where they look like numbers, as settings are.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    marked: frozenset[int] = frozenset()
    texts: bool = False

    @property
    def _cells(self) -> list[list[str]]:
        return [[row[i] for row in self.rows] for i in range(len(self.columns))]

    @cached_property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers, and so align to the right."""
        columns = enumerate(self._cells)
        return tuple(i > 0 and not self.texts and all(map(_is_number, cells)) for i, cells in columns)

    def breaks(self, cell: str) -> bool:
        """Whether a number may break: it has an interval in brackets, or ± in a row of many."""
        return "(" in cell or ("±" in cell and len(self.columns) > _IN_A_ROW)

    @property
    def stacked(self) -> bool:
        """Whether a phone stacks a row's cells: they are texts, and too many for one line."""
        return self.texts and len(self.columns) > _ON_A_PHONE

    @property
    def sideways(self) -> bool:
        """Whether it is wider than a phone, and says so: by letters that cannot break."""
        letters = len(self.columns)
        for name, cells, numeric in zip(self.columns, self._cells, self.numeric, strict=True):
            parts = [part for cell in cells for part in (cell.split() if self.breaks(cell) else [cell])]
            widest = max(map(len, parts), default=0) if numeric else _LETTERS_OF_TEXT
            letters += max([widest, *map(len, name.replace("-", "- ").split())])
        return not self.stacked and letters > _LETTERS_OF_A_PHONE

    def compact(self, missing: str = "") -> "Table":
        """Return the table without empty columns; other empty cells become ``missing``."""
        filled = [i for i, cells in enumerate(self._cells) if i == 0 or any(cells)]
        rows = [[row[i] or missing for i in filled] for row in self.rows]
        return replace(self, columns=[self.columns[i] for i in filled], rows=rows)

    def shortened(self, rows: int = ROWS, where: str = "") -> "Table":
        """Return the first rows, and a note with the number of the others and their place."""
        if len(self.rows) <= rows:
            return self
        left = f"The first {rows} of {len(self.rows):,} rows" + (f"; all are in {where}." if where else ".")
        marked = frozenset(row for row in self.marked if row < rows)
        return replace(self, rows=self.rows[:rows], marked=marked, note=f"{self.note} {left}".strip())


@dataclass(frozen=True)
class Caption:
    """The words of a figure: what it shows, in a sentence or two, and what else to know."""

    title: str
    description: str
    note: str = ""

    def noted(self, note: str) -> "Caption":
        """Return the caption with another note at the end."""
        return replace(self, note=f"{self.note} {note}".strip())


@dataclass(frozen=True)
class Figure:
    """A drawing with words for those who do not see it, and the numbers behind it.

    Attributes:
        key: unique on the page.
        kind: of drawing, for those who do not see it.
        view: SVG viewBox.
        body: SVG elements.
        wide: takes the whole width of the page.
    """

    key: str
    kind: str
    caption: Caption
    view: str
    body: str
    table: Table
    wide: bool = False


@dataclass(frozen=True)
class Gallery:
    """Pictures in a grid: rows and columns have names, and a picture is a data URI."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True)
class Fact:
    """A part of the answer: the question, the number that answers it, and exact sentences."""

    question: str
    number: str
    sentences: Sequence[str]


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading.

    Attributes:
        part: on a page about several things, the name of the one that it is about.
    """

    key: str
    title: str
    text: Sequence[str] = ()
    facts: Sequence[Fact] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    gallery: Gallery | None = None
    code: Sequence[str] = ()
    folded: bool = False
    part: str = ""


@dataclass(frozen=True)
class Page:
    """All that the template shows."""

    title: str
    lead: str
    facts: Sequence[Fact]
    sections: Sequence[Section]

    @property
    def parts(self) -> list[list[Section]]:
        """The sections, those about one thing together."""
        return [list(sections) for _, sections in groupby(self.sections, key=lambda section: section.part)]


def _is_number(cell: str) -> bool:
    return not cell or cell in (NONE, "∞") or cell[0].isdigit() or (cell[0] in "-−+<≥≤±" and len(cell) > 1)
