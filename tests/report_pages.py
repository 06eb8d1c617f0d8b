"""A report's page as a reader finds it: its text, and sections with cards, tables and figures."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from html.parser import HTMLParser
from itertools import count
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder

import pytest
from matplotlib.figure import Figure as Drawing

from fedtransfer.simulations.report.page import write_report

VOID = {"meta", "link", "img", "br"}
INLINE = {"a", "bdi", "span", "code"}
UNREAD = {"head", "svg"}
LONG = 12  # rows of a table; of longer ones the text shows the first few
SENTENCE = re.compile(r"(?<=[.?!]) (?=[A-Z0-9])")


class _Tree(HTMLParser):
    """What a browser would make of a page; every element must be closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self._builder, self._open = TreeBuilder(), list[str]()
        self.feed(source)
        assert not self._open, "every element is closed"
        self.root: Element = self._builder.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._builder.start(tag, {name: value or "" for name, value in attrs})
        if tag in VOID:
            self._builder.end(tag)
        else:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag
            self._builder.end(tag)

    def handle_data(self, data: str) -> None:
        if self._open:
            self._builder.data(data)


def text_of(element: Element, skipped: Sequence[str] = ()) -> str:
    """Return the words in an element, with single spaces."""

    def pieces(part: Element) -> Iterator[str]:
        yield part.text or ""
        for child in part:
            if child.tag not in skipped:
                yield from pieces(child)
            yield child.tail or ""

    return " ".join(" ".join(pieces(element)).split())


@dataclass(frozen=True)
class Table:
    """A table: a row is its cells by column."""

    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    marked: tuple[str, ...]  # the first cells of rows that are set off

    def __getitem__(self, name: str) -> dict[str, str]:
        """Return the row that begins with a name."""
        [row] = (row for row in self.rows if next(iter(row.values())) == name)
        return row

    def column(self, name: str) -> list[str]:
        """Return the cells of a column."""
        return [row[name] for row in self.rows]

    @property
    def names(self) -> list[str]:
        """The first cells of the rows."""
        return [next(iter(row.values())) for row in self.rows]


class Part:
    """A part of a page: what stands in it."""

    def __init__(self, element: Element) -> None:
        self.element = element

    def __repr__(self) -> str:
        return "\n".join(lines(self.element))

    @cached_property
    def text(self) -> str:
        """All words but those in drawings."""
        return text_of(self.element, ("svg",))

    @cached_property
    def paragraphs(self) -> list[str]:
        return [text_of(found) for found in self.element.iter() if found.tag in ("p", "figcaption")]

    def says(self, *words: str) -> bool:
        """Whether a paragraph has all of these words."""
        return any(all(word in paragraph for word in words) for paragraph in self.paragraphs)

    @cached_property
    def cards(self) -> list["Card"]:
        """The facts of an answer."""
        return [
            Card(card)
            for facts in self.element.iter("div")
            if facts.get("class") == "facts"
            for card in facts
        ]

    @cached_property
    def tables(self) -> dict[str, Table]:
        """By caption; those of figures are with the figures."""
        of_figures = {id(table) for figure in self.element.iter("figure") for table in figure.iter("table")}
        found = [table for table in self.element.iter("table") if id(table) not in of_figures]
        return {text_of(next(table.iter("caption"))): _table(table) for table in found}

    @cached_property
    def figures(self) -> dict[str, "Figure"]:
        """By title."""
        figures = [Figure(figure) for figure in self.element.iter("figure")]
        return {figure.title: figure for figure in figures}

    @cached_property
    def code(self) -> list[str]:
        return [text_of(found) for found in self.element.iter("pre")]

    @cached_property
    def pictures(self) -> list[str]:
        """What stands in place of each picture for those who do not see it."""
        return [picture.get("alt", "") for picture in self.element.iter("img")]


class Card(Part):
    """One fact: a question, the number that answers it, and sentences."""

    @cached_property
    def number(self) -> str:
        return text_of(self.element[1])


class Figure(Part):
    """A drawing with its words and numbers."""

    @cached_property
    def svg(self) -> Element:
        return next(self.element.iter("svg"))

    @cached_property
    def title(self) -> str:
        return text_of(next(self.svg.iter("title")))

    @cached_property
    def description(self) -> str:
        return text_of(next(self.svg.iter("desc")))

    @cached_property
    def table(self) -> Table:
        return _table(next(self.element.iter("table")))

    @property
    def labels(self) -> list[str]:
        """The texts of the drawing."""
        return [text_of(text) for text in self.svg.iter("text")]

    @property
    def colours(self) -> set[str]:
        """The series' colours in the drawing: s1, s2 …"""
        return set(
            re.findall(r"stroke: var\(--(s\d)\)", " ".join(part.get("style", "") for part in self.svg.iter()))
        )


class Page(Part):
    """A whole page."""

    def __init__(self, source: str) -> None:
        super().__init__(_Tree(source).root)
        self.source = source

    @cached_property
    def body(self) -> Element:
        return next(self.element.iter("body"))

    @cached_property
    def text(self) -> str:
        """All words, those of drawings too."""
        return text_of(self.body)

    @property
    def title(self) -> str:
        return text_of(next(self.element.iter("title")))

    @cached_property
    def sections(self) -> dict[str, Part]:
        """By key."""
        return {found.get("id", ""): Part(found) for found in self.body.iter("section") if found.get("id")}

    @property
    def headings(self) -> list[str]:
        return [text_of(found).replace(" : ", ": ") for found in self.body.iter("h2")]

    def tags(self) -> list[str]:
        return [found.tag for found in self.element.iter()]

    @property
    def answer(self) -> list["Card"]:
        """The facts that a page begins with."""
        return self.sections["answer"].cards


def _table(element: Element) -> Table:
    headers = [
        text_of(cell) for head in element.iter("thead") for cell in head.iter() if cell.tag in ("th", "td")
    ]
    rows = [row for body in element.iter("tbody") for row in body]
    columns = headers or [str(i) for i in range(len(rows[0]) if rows else 0)]
    assert len(set(columns)) == len(columns), "a name is that of one column"
    return Table(
        tuple(columns),
        tuple(dict(zip(columns, map(text_of, row), strict=True)) for row in rows),
        tuple(text_of(row[0]) for row in rows if row.get("class") == "marked"),
    )


def lines(element: Element) -> Iterator[str]:
    """Give the text of an element as lines: one a sentence, a heading, a row of a table."""
    if element.tag in UNREAD or element.get("aria-hidden"):
        return
    if element.tag == "tr":
        yield (
            "| "
            + " | ".join(" ".join([text_of(cell), *Part(cell).pictures]).strip() for cell in element)
            + " |"
        )
    elif element.tag == "tbody" and len(element) > LONG:
        for row in element[:3]:
            yield from lines(row)
        yield "| …"
    elif all(child.tag in INLINE for child in element):
        before = {"h1": "# ", "h2": "## ", "h3": "### ", "li": "- ", "caption": "Table: ", "pre": "$ "}
        words = text_of(element).replace(" : ", ": ")
        if element.tag in ("h1", "h2", "h3", "caption"):
            yield ""
        sentences = SENTENCE.split(words) if element.tag in ("p", "figcaption") else [words] if words else []
        yield from (before.get(element.tag, "") + sentence for sentence in sentences)
    else:
        for child in element:
            yield from lines(child)


def checked(source: str) -> Page:
    """Return a page that is well-formed, and that neither runs nor loads anything."""
    page = Page(source)
    assert "script" not in page.tags()
    attributes = [
        (found.tag, name, value) for found in page.element.iter() for name, value in found.attrib.items()
    ]
    ids = [value for _, name, value in attributes if name == "id"]
    assert len(ids) == len(set(ids))
    loaded = [
        value
        for tag, name, value in attributes
        if name in ("src", "href") and tag != "a" and not value.startswith("#")
    ]
    assert all(value.startswith("data:") for value in loaded)
    assert not [name for _, name, _ in attributes if name.startswith("on")]
    assert set(re.findall(r"url\((.)", source)) <= {"#"}
    assert "@import" not in source
    return page


def written(folders: Sequence[Path], out: Path) -> Page:
    """Write a page about folders and read it."""
    write_report(folders, out, "fedtransfer report x")
    return checked(out.read_text("utf-8"))


@contextmanager
def without_drawings() -> Iterator[None]:
    """Leave the page's drawings empty: they take four fifths of its time, alter nothing else."""
    number = count()

    def savefig(self: Drawing, file, **_: object) -> None:
        file.write(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><g id="empty-{next(number)}"/></svg>'
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Drawing, "savefig", savefig)
        yield
