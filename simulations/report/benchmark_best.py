"""The most accurate methods of each setting, federated or not and at each ε; the glance table."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from fedtransfer.simulations.report.benchmark_measures import by_setting, ends, estimate, seed_counts, text_of
from fedtransfer.simulations.report.benchmark_runs import same_test_images
from fedtransfer.simulations.report.blocks import Section, Table, epsilon, percent, printable
from fedtransfer.simulations.report.reading import Benchmark, Row, real
from fedtransfer.simulations.report.sentences import sentence
from fedtransfer.simulations.scoring.measures import BASELINES

_LEVELS = 3  # of ε that are named
_Level = TypeVar("_Level")


def federated(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of methods that have an accuracy, baselines left out."""
    return [row for row in rows if row["method"] not in BASELINES and row["accuracy"]]


def pooled(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of heads of all images in one place that have an accuracy."""
    return [row for row in rows if row["method"].startswith("pooled") and row["accuracy"]]


def best(rows: Sequence[Row]) -> Row:
    """Return the row of the highest accuracy."""
    return max(rows, key=lambda row: real(row["accuracy"]))


def as_good(benchmark: Benchmark, rows: Sequence[Row]) -> list[Row]:
    """Return the best row, and those whose interval, or range of two seeds, overlaps with it."""
    if not rows:
        return []
    top = best(rows)
    interval = ends(benchmark, top, "accuracy")
    others = [(row, ends(benchmark, row, "accuracy")) for row in rows]
    return [row for row, other in others if row is top or (interval and other and other[1] >= interval[0])]


def by_epsilon(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return ε, as a text → its rows, from the largest."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.get("epsilon"):
            groups.setdefault(epsilon(real(row["epsilon"])), []).append(row)
    return {level: groups[level] for level in falling(groups)}


def falling(levels: Iterable[str]) -> list[str]:
    """Return values of ε, as texts, from the largest."""
    return sorted(levels, key=lambda level: -(math.inf if level == "∞" else float(level.replace(",", ""))))


def few(levels: Sequence[_Level]) -> Sequence[_Level]:
    """Return the first and the last of many."""
    return levels if len(levels) <= _LEVELS else (levels[0], levels[-1])


def family(method: str) -> str:
    """Return a method's name without the ε in it: ``fed3r`` for ``fed3r+epsilon=0.5`` and ``fed3r ε=0.5``."""
    return re.sub(r"[\s,+_-]*\(?(?:epsilon|eps|ε)?\s*=?\s*[\d.]+\)?$", "", method) or method


def alone(benchmark: Benchmark, row: Row) -> float:
    """Return the share of sites with better local heads on own test images; NaN if unknown."""
    return estimate(benchmark, row, "worse_than_local").mean


def on_own_images(benchmark: Benchmark, rows: Sequence[Row]) -> tuple[float, float]:
    """Return the mean accuracy on sites' own test images, NaN if unknown: (best method, alone)."""
    local = next((row for row in rows if row["method"] == "local only"), {})
    methods = federated(rows)
    return real(best(methods).get("own_mean")) if methods else math.nan, real(local.get("own_mean"))


def glance(benchmark: Benchmark) -> list[Section]:
    """Return a section with a row per setting, if there are several: the best of each kind."""
    settings = by_setting(benchmark)
    levels = few(falling({level for rows in settings.values() for level in by_epsilon(federated(rows))}))
    cells = tuple((printable(name, 60), *_best_of_each(benchmark, rows, levels)) for name, rows in settings.items())
    columns = (
        "setting",
        "best without differential privacy" if levels else "best method",
        *(f"best at ε = {level}" for level in levels),
        "all images in one place",
        "each site alone, on all classes",
        "own images: best method / alone",
        "sites that do better alone",
    )
    alone_compared = any(row[-2] or row[-1] for row in cells)
    note = sentence("tables", "glance", same_test_images(benchmark), seed_counts(benchmark), alone_compared)
    table = Table("At a glance", columns, cells, note, texts=True).compact().shortened()
    return [Section("glance", "At a glance", tables=(table,))] if len(cells) > 1 else []


def _best_of_each(benchmark: Benchmark, rows: Sequence[Row], levels: Sequence[str]) -> list[str]:
    methods, private = federated(rows), by_epsilon(federated(rows))
    bare = [row for row in methods if not row.get("epsilon")]
    kinds = [bare, *(private.get(level, []) for level in levels), pooled(rows)]
    cells = [_named(benchmark, best(kind)) if kind else "" for kind in kinds]
    local = [text_of(benchmark, row, "accuracy") for row in rows if row["method"] == "local only"]
    share = alone(benchmark, best(methods)) if methods else math.nan
    pair = on_own_images(benchmark, rows)
    on_own_images_text = "" if any(map(math.isnan, pair)) else " / ".join(map(percent, pair))
    return [*cells, *(local or [""]), on_own_images_text, "" if math.isnan(share) else percent(share, 0)]


def _named(benchmark: Benchmark, row: Row) -> str:
    name = family(row["method"]) if row.get("epsilon") else row["method"]
    return f"{text_of(benchmark, row, 'accuracy')}, {printable(name, 40)}"
