"""The page: sections in their order, poured into the template."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from common.errors import UserError
from simulations.report import runs, words
from simulations.report.blocks import Fact, Section, Table, shown
from simulations.report.reading import Run, Source, read_folder

MARK = '<meta name="generator" content="fedtransfer report">'
_SHOWN_VERSIONS = ("fedtransfer", "flwr", "keras", "tensorflow-cpu", "tensorflow", "numpy", "scikit-learn", "dp-accounting", "matplotlib")


@dataclass(frozen=True)
class Page:
    """All that the template shows."""

    title: str
    lead: str
    facts: tuple[Fact, ...]
    sections: tuple[Section, ...]


def write(folders: Sequence[Path], out: Path, command: str) -> None:
    """Read the folders and write the page; see ``simulations.report.write_report``."""
    page = page_of([read_folder(folder) for folder in folders], command)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(rendered(page), "utf-8")
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None


def page_of(sources: Sequence[Source], command: str) -> Page:
    """Lay out a page about these sources."""
    [run] = [source for source in sources if isinstance(source, Run)]
    return Page(f"{run.name}", words.on_what(run), words.of_run(run), (*runs.sections(run), *runs.closing(run), _versions(command)))


def rendered(page: Page) -> str:
    """Return the page as HTML; every text is escaped, and only the drawings' elements are taken as they are."""
    environment = Environment(
        loader=PackageLoader("simulations.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["drawing"] = Markup
    return environment.get_template("report.html").render(page=page)


def is_report(file: Path) -> bool:
    """Whether a file is a report, which a new one may replace."""
    try:
        with file.open("rb") as opened:
            return MARK.encode() in opened.read(2000)
    except OSError:
        return False


def _versions(command: str) -> Section:
    found = [("Python", python_version())]
    for name in _SHOWN_VERSIONS:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    told = (f"This page: {shown(command, 500)}",) if command else ()
    return Section("versions", "Versions", told, tables=(Table("Installed where this page was written", ("package", "version"), tuple(found)),), folded=True)
