"""The tables of a benchmark: a row a run in ``cells.csv``, and a row a setting and method in ``table.csv``."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedtransfer.common.support.files import write_csv
from fedtransfer.simulations.benchmark.measures import Row
from fedtransfer.simulations.benchmark.plan_file import Expected
from fedtransfer.simulations.scoring.estimate import Estimate

# In the order of the columns; docs/benchmarks.md explains them.
MEASURES = (
    "accuracy", "balanced_accuracy", "macro_precision", "macro_f1", "auroc", "auroc_off", "nll", "ece", "own_mean", "worst_site",
    "bottom_decile", "worse_than_local", "difference", "rounds", "bytes", "bytes_up", "bytes_down", "seconds_features", "seconds_training",
    "seconds_aggregation", "peak_mb", "personal", "personal_mixed", "personal_worse", "unseen", "unseen_adapted",
)  # fmt: skip
FACTS = ("epsilon", "delta", "backbone", "resolution", "preprocessing", "fingerprint")
REFERENCE = "fedavg"  # the method that differences are to


@dataclass(frozen=True)
class Line:
    """A method in a setting over all seeds.

    Attributes:
        estimates: measure → its mean over the seeds that have it, with the interval.
        reached: number of runs that reached 95 % of pooled, NaN if unknown; rounds and bytes are means over these.
        facts: of features and privacy.
        expected: a published number next to which it stands.
    """

    setting: str
    method: str
    seeds: int
    estimates: dict[str, Estimate]
    reached: float
    facts: dict[str, str]
    expected: Expected | None = None

    @property
    def columns(self) -> dict[str, object]:
        """The row of ``table.csv``."""
        row: dict[str, object] = {"setting": self.setting, "method": self.method, "seeds": self.seeds}
        for name, estimate in self.estimates.items():
            row |= {name: estimate.mean, f"{name}_interval": estimate.half}
        row |= {"reached": self.reached} | {name: self.facts.get(name, "") for name in FACTS}
        number, source = (self.expected.accuracy, self.expected.source) if self.expected else ("", "")
        return {**row, "expected": number, "source": source}


def with_differences(rows: Sequence[Row]) -> list[Row]:
    """Add to each row its difference in accuracy to fedavg in the same setting and seed, NaN without one."""
    reference = {(row.setting, row.seed): row.measures["accuracy"] for row in rows if row.method == REFERENCE}
    paired = []
    for row in rows:
        other = math.nan if row.method == REFERENCE else reference.get((row.setting, row.seed), math.nan)
        paired.append(replace(row, measures={**row.measures, "difference": row.measures["accuracy"] - other}))
    return paired


def summarise(rows: Iterable[Row], expected: Sequence[Expected] = ()) -> list[Line]:
    """Summarise runs over seeds, in the order in which settings and methods first appear."""
    published = {(entry.setting, entry.method): entry for entry in expected}
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.setting, row.method].append(row)
    lines = []
    for key, runs in groups.items():
        values = {name: [run.measures.get(name, math.nan) for run in runs] for name in (*MEASURES, "reached")}
        reached = [value for value in values.pop("reached") if not math.isnan(value)]
        estimates = {name: Estimate.from_values(numbers) for name, numbers in values.items()}
        total = sum(reached) if reached else math.nan
        lines.append(Line(*key, len(runs), estimates, total, dict(runs[0].facts), published.get(key)))
    return lines


def write_cells(path: Path, rows: Iterable[Row]) -> None:
    """Write a row a run, baselines included."""
    _write(path, [
        {"setting": row.setting, "method": row.method, "seed": row.seed}
        | {name: row.measures.get(name, math.nan) for name in MEASURES}
        | {name: row.facts.get(name, "") for name in FACTS} | {"seconds": row.seconds}
        for row in rows
    ])  # fmt: skip


def write_table(path: Path, lines: Iterable[Line]) -> None:
    """Write a row a setting and method."""
    _write(path, [line.columns for line in lines])


def _write(path: Path, rows: Sequence[dict[str, object]]) -> None:
    """Write rows of the same columns; NaN becomes an empty cell, numbers have six digits."""
    write_csv(path, list(rows[0]) if rows else [], ([_text(value) for value in row.values()] for row in rows))


def _text(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}" if abs(value) < 1e5 else f"{value:.0f}"
    return value
