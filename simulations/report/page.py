"""The report: results of runs, benchmarks and audits in one self-contained HTML file."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version

from fedtransfer.common.errors import UserError
from fedtransfer.simulations.report import audits, benchmarks, comparison, runs
from fedtransfer.simulations.report.blocks import Page, Section
from fedtransfer.simulations.report.reading import Audit, Benchmark, Run, Source, named, read_folder
from fedtransfer.simulations.report.sentences import environment, table
from fedtransfer.simulations.report.texts import printable

_MARK = b'<meta name="generator" content="fedtransfer report">'
_PACKAGES = "fedtransfer flwr keras tensorflow-cpu tensorflow numpy scikit-learn dp-accounting matplotlib"


def write_report(folders: Sequence[Path], out: Path, command: str = "") -> None:
    """Write an HTML file about run, benchmark and audit folders, recognised by their files.

    Args:
        folders: what to report on; several runs are compared.
        out: the HTML file.
        command: the command that repeats the report or its subject; printed unchanged.

    Raises:
        UserError: a folder is of no such kind or cannot be read, or the file cannot be written.
    """
    sources = named([read_folder(folder) for folder in dict.fromkeys(folder.resolve() for folder in folders)])
    html = environment().get_template("report.html").render(page=_page(sources, command))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(html, "utf-8")
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None


def is_report(file: Path) -> bool:
    """Whether a file is a report, which a new one may replace."""
    try:
        with file.open("rb") as opened:
            return _MARK in opened.read(2000)
    except OSError:
        return False


def _page(sources: Sequence[Source], command: str) -> Page:
    """Lay out a page: runs together, then each benchmark and each audit."""
    compared = [source for source in sources if isinstance(source, Run)]
    parts = [comparison.page(compared)] if len(compared) > 1 else [runs.page(run) for run in compared]
    for source in sources:
        if isinstance(source, Benchmark):
            parts.append(benchmarks.page(source))
        elif isinstance(source, Audit):
            parts.append(audits.page(source))
    if len(parts) == 1:
        [page] = parts
        return replace(page, sections=[*page.sections, _versions(command)])
    sections = [section for i, part in enumerate(parts, 1) for section in _under(i, part)]
    return Page("; ".join(part.title for part in parts), "", (), [*sections, _versions(command)])


def _under(number: int, part: Page) -> list[Section]:
    """Return one part of a page: its answer, then its sections, under keys of the part."""
    sections = [Section("answer", "The answer", [part.lead], part.facts), *part.sections]
    return [replace(section, key=f"part-{number}-{section.key}", part=part.title) for section in sections]


def _versions(command: str) -> Section:
    packages = [("Python", python_version())]
    for name in _PACKAGES.split():
        with suppress(PackageNotFoundError):
            packages.append((name, version(name)))
    text = [f"This page: {printable(command, 500)}"] if command else []
    return Section("versions", "Versions", text, tables=[table("versions", packages)], folded=True)
