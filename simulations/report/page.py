"""The page: sections in their order, poured into the template."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from platform import python_version

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.text import counted
from fedtransfer.simulations.report import (
    audit_words,
    audits,
    benchmark_words,
    benchmarks,
    comparison,
    comparison_words,
    runs,
    words,
)
from fedtransfer.simulations.report.blocks import Fact, Section, Table, listed, shown
from fedtransfer.simulations.report.reading import Audit, Benchmark, Run, Source, read_folder, told_apart

MARK = '<meta name="generator" content="fedtransfer report">'
_SHOWN_VERSIONS = (
    "fedtransfer",
    "flwr",
    "keras",
    "tensorflow-cpu",
    "tensorflow",
    "numpy",
    "scikit-learn",
    "dp-accounting",
    "matplotlib",
)


@dataclass(frozen=True)
class Page:
    """All that the template shows."""

    title: str
    lead: str
    facts: tuple[Fact, ...]
    sections: tuple[Section, ...]

    @property
    def parts(self) -> list[list[Section]]:
        """The sections, those about one thing together."""
        return [list(sections) for _, sections in groupby(self.sections, key=lambda section: section.part)]


def write(folders: Sequence[Path], out: Path, command: str) -> None:
    """Read the folders and write the page; see ``fedtransfer.simulations.report.write_report``."""
    page = page_of([read_folder(folder) for folder in dict.fromkeys(folder.resolve() for folder in folders)], command)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(rendered(page), "utf-8")
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None


def page_of(sources: Sequence[Source], command: str) -> Page:
    """Lay out a page: runs together, then each benchmark and each audit."""
    names = dict(zip((source.folder for source in sources), told_apart(sources), strict=True))
    runs_ = [source for source in sources if isinstance(source, Run)]
    parts = [_of_runs(runs_, [names[run.folder] for run in runs_])] if runs_ else []
    for source in sources:
        if isinstance(source, Benchmark):
            parts.append(
                Page(
                    shown(names[source.folder]),
                    benchmark_words.lead(source),
                    benchmark_words.facts(source),
                    tuple(benchmarks.sections(source)),
                )
            )
        elif isinstance(source, Audit):
            parts.append(
                Page(
                    audit_words.title(source, names[source.folder]),
                    audit_words.lead(source),
                    audit_words.facts(source),
                    tuple(audits.sections(source)),
                )
            )
    if len(parts) == 1:
        [page] = parts
        return replace(page, sections=(*page.sections, _versions(command)))
    sections = [section for i, part in enumerate(parts, 1) for section in _under(i, part)]
    return Page("; ".join(part.title for part in parts), "", (), (*sections, _versions(command)))


def _of_runs(found: Sequence[Run], names: Sequence[str]) -> Page:
    if len(found) == 1:
        [run] = found
        return Page(shown(names[0]), words.on_what(run), words.of_run(run), (*runs.sections(run), *runs.closing(run)))
    alike = comparison.differing(found) in (["seed"], [])
    known = all(not math.isnan(run.accuracy) for run in found)
    facts = comparison_words.of_seeds(found) if alike and known else comparison_words.of_several(found, names)
    lead = (
        words.on_what(found[0], sorted({run.config.seed for run in found}))
        if alike
        else comparison_words.on_several(found)
    )
    title = listed([shown(name, 40) for name in names]) if len(names) <= 3 else counted(len(found), "run")
    return Page(title, lead, facts, tuple(comparison.sections(found, names)))


def _under(number: int, part: Page) -> list[Section]:
    """Return a part of a page about several things: its answer, then its sections, under keys of their own."""
    answer = Section("answer", "The answer", (part.lead,), part.facts)
    return [
        replace(section, key=f"part-{number}-{section.key}", title=section.title, part=part.title)
        for section in (answer, *part.sections)
    ]


def rendered(page: Page) -> str:
    """Return the page as HTML; every text is escaped, and only the drawings' elements are taken as they are."""
    environment = Environment(
        loader=PackageLoader("fedtransfer.simulations.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
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
    return Section(
        "versions",
        "Versions",
        told,
        tables=(Table("Installed where this page was written", ("package", "version"), tuple(found)),),
        folded=True,
    )
