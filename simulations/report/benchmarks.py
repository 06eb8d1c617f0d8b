"""The sections about a benchmark: every setting's methods beside each other, and how it was done."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fedtransfer.simulations.report.benchmark_answer import of_setting
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
from fedtransfer.simulations.report.blocks import Section, Table, epsilon, percent, shown
from fedtransfer.simulations.report.reading import Benchmark, Row, real
from fedtransfer.simulations.report.sentences import sentence
from fedtransfer.simulations.scoring.measures import REACHED

_SCORES = {**SHARES, **POINTS, **NUMBERS}


def sections(benchmark: Benchmark) -> list[Section]:
    """Return all settings at a glance, a section a setting, and how the benchmark was made."""
    settings = by_setting(benchmark)
    made = [_setting(benchmark, f"setting-{i}", rows, len(settings) > 1) for i, rows in enumerate(settings.values())]
    return [*glance(benchmark), *made, *_how(benchmark)]


def _setting(benchmark: Benchmark, key: str, rows: Sequence[Row], several: bool) -> Section:
    setting = rows[0]["setting"]
    known = curves(benchmark, setting)
    text = [described(benchmark, setting)]
    if several:  # about a single setting, the answer above says it
        text.append(of_setting(benchmark, rows, known))
    made = federated(rows)
    tables = (
        _scores(benchmark, rows),
        _measures(benchmark, made, "Heads adapted to a site, on its own test images", ADAPTED),
        _costs(benchmark, rows),
    )
    return Section(
        key,
        shown(setting, 100),
        tuple(filter(None, text)),
        figures=figures(benchmark, setting, rows, known),
        tables=tuple(table for table in tables if len(table.columns) > 1),
    )


def _scores(benchmark: Benchmark, rows: Sequence[Row]) -> Table:
    """Lay out the scores that at least one row has, with ε beside the method."""
    names = [name for name in _SCORES if any(row.get(name) for row in rows)]
    few = all(row.get("bottom_decile") == row.get("worst_site") for row in rows)
    names = [name for name in names if name != ("bottom_decile" if few else "worst_site")]
    facts = [name for name in ("expected", "source") if any(row.get(name) for row in rows)]
    private, seeds = any(row.get("epsilon") for row in rows), len({row.get("seeds") for row in rows}) > 1
    made = federated(rows)
    close = as_good(benchmark, made)
    marked = frozenset(i for i, row in enumerate(rows) if row in close)
    columns = (
        "method",
        *(["ε"] if private else []),
        *(["seeds"] if seeds else []),
        *(_SCORES[name] for name in names),
        *facts,
    )
    laid_out = tuple(
        (
            shown(row["method"], 60),
            *([_epsilon(row)] if private else []),
            *([row["seeds"]] if seeds else []),
            *(text_of(benchmark, row, name) for name in names),
            *(_fact(row, name) for name in facts),
        )
        for row in rows
    )
    note = sentence("tables", "scores", seed_counts(benchmark), len(marked))
    return Table("Scores", columns, laid_out, note, marked).shortened(where="table.csv")


def _measures(benchmark: Benchmark, rows: Sequence[Row], caption: str, measures: Mapping[str, str]) -> Table:
    """Lay out the measures that at least one row has."""
    names = [name for name in measures if any(row.get(name) for row in rows)]
    laid_out = tuple((shown(row["method"], 60), *(text_of(benchmark, row, name) for name in names)) for row in rows)
    columns = ("method", *(measures[name] for name in names))
    return Table(caption, columns, laid_out, sentence("accuracy", "certainty", seed_counts(benchmark))).shortened(
        where="table.csv"
    )


def _costs(benchmark: Benchmark, rows: Sequence[Row]) -> Table:
    """Lay out the costs, and say where 95 % of pooled softmax says little, since that itself is far from pooled heads' best."""
    table = _measures(benchmark, federated(rows), "Costs", COSTS)
    softmax = next((row for row in pooled(rows) if row["method"] == "pooled softmax"), None)
    if not softmax or COSTS["rounds"] not in table.columns:
        return table
    top = best(pooled(rows))
    if real(softmax["accuracy"]) >= REACHED * real(top["accuracy"]):
        return table
    facts = real(softmax["accuracy"]), real(top["accuracy"]), top["method"]
    return replace(table, note=f"{table.note} {sentence('tables', 'softmax_falls_short', *facts)}")


def _epsilon(row: Row) -> str:
    return epsilon(real(row["epsilon"])) if row.get("epsilon") else ""


def _fact(row: Row, name: str) -> str:
    value = row.get(name, "")
    return percent(real(value)) if name == "expected" and value else shown(value, 120)


def _how(benchmark: Benchmark) -> list[Section]:
    about = benchmark.about
    tables = []
    if backbones := about.get("backbones"):
        columns = ("name", "resolution", "preprocessing", "fingerprint")
        tables.append(
            Table(
                "Backbones",
                columns,
                tuple(tuple(shown(backbone.get(name, "–"), 200) for name in columns) for backbone in backbones),
            )
        )
    for key, caption in (("tuning", "What was tuned"), ("expected", "Beside numbers from elsewhere")):
        if entries := about.get(key):
            columns = tuple(dict.fromkeys(name for entry in entries for name in entry))
            laid_out = tuple(tuple(_measured(entry, name) for name in columns) for entry in entries)
            tables.append(Table(caption, columns, laid_out).shortened(where="benchmark.json"))
    seconds = about.get("seconds")
    if isinstance(seconds, dict):
        tables.append(
            Table(
                "Seconds", ("part", "seconds"), tuple((shown(part), f"{value:,.0f}") for part, value in seconds.items())
            )
        )
    text = [f"Left out: {shown(remark, 300)}" for remark in about.get("left_out") or []]
    text += [f"{shown(failed, 600)}." for failed in failures(benchmark)]
    sections = [Section("how", "How it was done", tuple(text[:40]), tables=tuple(tables))] if tables or text else []
    if benchmark.plan:
        sections.append(Section("plan", "Configuration: the plan", code=(benchmark.plan,), folded=True))
    if command := about.get("command"):
        sections.append(Section("repeat", "To repeat it", code=(shown(command, 2000),)))
    return sections


def _measured(entry: Mapping[str, object], name: str) -> str:
    return "not run" if name == "measured" and entry.get(name) is None else _any(entry.get(name))


def _any(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return shown(", ".join(f"{name} {_any(inner)}" for name, inner in value.items()), 300)
    return shown(", ".join(map(_any, value)), 300) if isinstance(value, list) else shown(value, 300)
