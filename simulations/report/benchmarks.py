"""The page about a benchmark: every setting's methods next to each other, and how it was done."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fedtransfer.simulations.report import benchmark_answer
from fedtransfer.simulations.report.benchmark_best import as_good, best, federated, glance, pooled
from fedtransfer.simulations.report.benchmark_figures import figures
from fedtransfer.simulations.report.benchmark_measures import (
    ADAPTED,
    COSTS,
    NUMBERS,
    POINTS,
    SHARES,
    by_setting,
    seed_counts,
    text_of,
)
from fedtransfer.simulations.report.benchmark_runs import curves, described, failures
from fedtransfer.simulations.report.blocks import Page, Section, Table, epsilon, percent, printable
from fedtransfer.simulations.report.reading import Benchmark, Row, real
from fedtransfer.simulations.report.sentences import sentence
from fedtransfer.simulations.scoring.measures import REACHED

_SCORES = {**SHARES, **POINTS, **NUMBERS}


def page(benchmark: Benchmark, name: str) -> Page:
    """Return the page: the answer, the glance table, a section per setting, and the benchmark's setup."""
    settings = list(by_setting(benchmark).values())
    parts = [_setting(benchmark, f"setting-{i}", rows, len(settings) > 1) for i, rows in enumerate(settings)]
    sections = (*glance(benchmark), *parts, *_how(benchmark))
    return Page(printable(name), benchmark_answer.lead(benchmark), benchmark_answer.answer(benchmark), sections)


def _setting(benchmark: Benchmark, key: str, rows: Sequence[Row], several: bool) -> Section:
    setting = rows[0]["setting"]
    by_round = curves(benchmark, setting)
    # The answer above says it about a single setting.
    text = (described(benchmark, setting), benchmark_answer.of_setting(benchmark, rows, by_round) if several else "")
    adapted = _measures(benchmark, federated(rows), "Heads adapted to a site, on its own test images", ADAPTED)
    tables = (_scores(benchmark, rows), adapted, _costs(benchmark, rows))
    return Section(
        key,
        printable(setting, 100),
        tuple(filter(None, text)),
        figures=figures(benchmark, setting, rows, by_round),
        tables=tuple(table for table in tables if len(table.columns) > 1),
    )


def _scores(benchmark: Benchmark, rows: Sequence[Row]) -> Table:
    """Lay out the scores that at least one row has, with ε next to the method."""
    few = all(row.get("bottom_decile") == row.get("worst_site") for row in rows)
    names = [name for name in _SCORES if name != ("bottom_decile" if few else "worst_site")]
    seeds = len({row.get("seeds") for row in rows}) > 1
    close = as_good(benchmark, federated(rows))
    marked = frozenset(i for i, row in enumerate(rows) if row in close)
    columns = ("method", "ε", "seeds", *(_SCORES[name] for name in names), "expected", "source")
    cells = tuple(
        (
            printable(row["method"], 60),
            epsilon(real(row["epsilon"])) if row.get("epsilon") else "",
            row["seeds"] if seeds else "",
            *(text_of(benchmark, row, name) for name in names),
            percent(real(row["expected"])) if row.get("expected") else "",
            printable(row.get("source", ""), 120),
        )
        for row in rows
    )
    note = sentence("tables", "scores", seed_counts(benchmark), len(marked))
    return Table("Scores", columns, cells, note, marked).compact().shortened(where="table.csv")


def _measures(benchmark: Benchmark, rows: Sequence[Row], caption: str, measures: Mapping[str, str]) -> Table:
    """Lay out the measures that at least one row has."""
    cells = tuple((printable(row["method"], 60), *(text_of(benchmark, row, name) for name in measures)) for row in rows)
    note = sentence("accuracy", "certainty", seed_counts(benchmark))
    return Table(caption, ("method", *measures.values()), cells, note).compact().shortened(where="table.csv")


def _costs(benchmark: Benchmark, rows: Sequence[Row]) -> Table:
    """Lay out the costs, with a note if another pooled head is far better than pooled softmax."""
    table, together = _measures(benchmark, federated(rows), "Costs", COSTS), pooled(rows)
    accuracy = {row["method"]: real(row["accuracy"]) for row in together}
    softmax = accuracy.get("pooled softmax", math.inf)
    if COSTS["rounds"] not in table.columns or softmax >= REACHED * max(accuracy.values(), default=0.0):
        return table
    top = best(together)["method"]
    return replace(table, note=f"{table.note} {sentence('tables', 'softmax_falls_short', softmax, accuracy[top], top)}")


def _how(benchmark: Benchmark) -> list[Section]:
    about, tables = benchmark.about, []
    if backbones := about.get("backbones"):
        columns = ("name", "resolution", "preprocessing", "fingerprint")
        cells = tuple(tuple(printable(backbone.get(name, "–"), 200) for name in columns) for backbone in backbones)
        tables.append(Table("Backbones", columns, cells))
    for key, caption in (("tuning", "What was tuned"), ("expected", "Numbers from elsewhere")):
        if entries := about.get(key):
            columns = tuple(dict.fromkeys(name for entry in entries for name in entry))
            cells = tuple(tuple(_measured(entry, name) for name in columns) for entry in entries)
            tables.append(Table(caption, columns, cells).shortened(where="benchmark.json"))
    if isinstance(seconds := about.get("seconds"), dict):
        cells = tuple((printable(part), f"{value:,.0f}") for part, value in seconds.items())
        tables.append(Table("Seconds", ("part", "seconds"), cells))
    text = [f"Left out: {printable(remark, 300)}" for remark in about.get("left_out") or []]
    text += [f"{printable(failure, 600)}." for failure in failures(benchmark)]
    sections = [Section("how", "How it was done", tuple(text[:40]), tables=tuple(tables))] if tables or text else []
    if benchmark.plan:
        sections.append(Section("plan", "Configuration: the plan", code=(benchmark.plan,), folded=True))
    if command := about.get("command"):
        sections.append(Section("repeat", "To repeat it", code=(printable(command, 2000),)))
    return sections


def _measured(entry: Mapping[str, object], name: str) -> str:
    return "not run" if name == "measured" and entry.get(name) is None else _any(entry.get(name))


def _any(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return printable(", ".join(f"{name} {_any(inner)}" for name, inner in value.items()), 300)
    return printable(", ".join(map(_any, value)), 300) if isinstance(value, list) else printable(value, 300)
