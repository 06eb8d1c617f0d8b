"""The page: sections in their order, poured into the template."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version

from fedtransfer.common.support.text import counted
from fedtransfer.simulations.report import (
    audits,
    benchmarks,
    comparison,
    comparison_answer,
    run_answer,
    runs,
)
from fedtransfer.simulations.report.blocks import Page, Section, Table, listed, printable
from fedtransfer.simulations.report.reading import Audit, Benchmark, Run, Source, distinct_names
from fedtransfer.simulations.report.sentences import environment, sentence

MARK = '<meta name="generator" content="fedtransfer report">'
_PACKAGES = [
    "fedtransfer",
    "flwr",
    "keras",
    "tensorflow-cpu",
    "tensorflow",
    "numpy",
    "scikit-learn",
    "dp-accounting",
    "matplotlib",
]


def page_of(sources: Sequence[Source], command: str) -> Page:
    """Lay out a page: runs together, then each benchmark and each audit."""
    names = dict(zip((source.folder for source in sources), distinct_names(sources), strict=True))
    compared = [source for source in sources if isinstance(source, Run)]
    parts = [_of_runs(compared, [names[run.folder] for run in compared])] if compared else []
    for source in sources:
        if isinstance(source, Benchmark):
            parts.append(benchmarks.page(source, names[source.folder]))
        elif isinstance(source, Audit):
            parts.append(audits.page(source, names[source.folder]))
    if len(parts) == 1:
        [page] = parts
        return replace(page, sections=(*page.sections, _versions(command)))
    sections = [section for i, part in enumerate(parts, 1) for section in _under(i, part)]
    return Page("; ".join(part.title for part in parts), "", (), (*sections, _versions(command)))


def _of_runs(group: Sequence[Run], names: Sequence[str]) -> Page:
    if len(group) == 1:
        [run] = group
        lead, sections = sentence("lead", "of_run", run, ()), (*runs.sections(run), *runs.closing(run))
        return Page(printable(names[0]), lead, run_answer.answer(run), sections)
    alike = comparison.differing(group) in (["seed"], [])
    seeds = sorted({run.config.seed for run in group})
    lead = sentence("lead", "of_run", group[0], seeds) if alike else sentence("lead", "of_several", group)
    scored = all(not math.isnan(run.accuracy) for run in group)
    facts = comparison_answer.of_seeds(group) if alike and scored else comparison_answer.of_several(group, names)
    title = listed([printable(name, 40) for name in names]) if len(names) <= 3 else counted(len(group), "run")
    return Page(title, lead, facts, tuple(comparison.sections(group, names)))


def _under(number: int, part: Page) -> list[Section]:
    """Return one part of a page: its answer, then its sections, under keys of the part."""
    answer = Section("answer", "The answer", (part.lead,), part.facts)
    return [
        replace(section, key=f"part-{number}-{section.key}", title=section.title, part=part.title)
        for section in (answer, *part.sections)
    ]


def rendered(page: Page) -> str:
    """Return the page as HTML: every text is escaped, except the elements of drawings."""
    return environment().get_template("report.html").render(page=page)


def is_report(file: Path) -> bool:
    """Whether a file is a report, which a new one may replace."""
    try:
        with file.open("rb") as opened:
            return MARK.encode() in opened.read(2000)
    except OSError:
        return False


def _versions(command: str) -> Section:
    packages = [("Python", python_version())]
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            packages.append((name, version(name)))
    text = (f"This page: {printable(command, 500)}",) if command else ()
    table = Table("Installed where this page was written", ("package", "version"), tuple(packages))
    return Section("versions", "Versions", text, tables=(table,), folded=True)
