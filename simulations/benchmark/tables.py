"""What the runs of a plan say together: a row a run, and a line a setting and method."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedtransfer.simulations.benchmark.measures import Row
from fedtransfer.simulations.benchmark.plan_file import Expected
from fedtransfer.simulations.csv_files import write_csv

# In the order of the tables' columns. Accuracy and the like are of the delivered head on the common test set; auroc_off is
# the most that auroc can be off for being made of histograms; own_mean, worst_site, bottom_decile and worse_than_local on each
# site's own test images, as are those from personal on; difference is to fedavg in the same setting and seed; rounds and bytes are
# those until a head reached 95 % of the pooled softmax head's accuracy, bytes_up and bytes_down those of the whole run, at a
# site in the mean; seconds_features is what a run took to find its features in the store.
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
        mean: measure → mean over the seeds that have it; NaN where none has.
        interval: measure → half the width of its 95 % interval; NaN for less than two.
        reached: runs that reached 95 % of pooled, NaN where nobody knows; rounds and bytes are means over these.
        facts: of features and privacy.
        expected: a number from elsewhere that it stands beside.
        pair: measure → the lesser and the greater value, where there are two: too few for an interval that says much.
    """

    setting: str
    method: str
    seeds: int
    mean: dict[str, float]
    interval: dict[str, float]
    reached: float
    facts: dict[str, str]
    expected: Expected | None = None
    pair: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, object]:
        """What ``table.csv`` says of it."""
        pairs = {
            column: value
            for name in MEASURES
            for column, value in ((name, self.mean[name]), (f"{name}_interval", self.interval[name]))
        }
        named = {"setting": self.setting, "method": self.method, "seeds": self.seeds}
        expected = {"expected": self.expected.accuracy, "source": self.expected.source} if self.expected else {}
        facts = {name: self.facts.get(name, "") for name in FACTS}
        return {**named, **pairs, "reached": self.reached, **facts, "expected": "", "source": "", **expected}


def with_differences(rows: Sequence[Row]) -> list[Row]:
    """Give each row its difference in accuracy to fedavg in the same setting and with the same seed, where that is."""
    reference = {(row.setting, row.seed): row.measures["accuracy"] for row in rows if row.method == REFERENCE}
    paired = []
    for row in rows:
        other = math.nan if row.method == REFERENCE else reference.get((row.setting, row.seed), math.nan)
        measures = {**row.measures, "difference": row.measures["accuracy"] - other}
        paired.append(Row(row.setting, row.method, row.seed, measures, row.facts, row.seconds))
    return paired


def summarise(rows: Iterable[Row], expected: Sequence[Expected] = ()) -> list[Line]:
    """Summarise runs over seeds, in the order in which settings and methods first come."""
    beside = {(entry.setting, entry.method): entry for entry in expected}
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.setting, row.method].append(row)
    lines = []
    for (setting, method), mine in groups.items():
        values = {name: [row.measures.get(name, math.nan) for row in mine] for name in MEASURES}
        there = {name: sorted(x for x in numbers if not math.isnan(x)) for name, numbers in values.items()}
        told = {name: mean_and_interval(numbers) for name, numbers in there.items()}
        pair = {name: (numbers[0], numbers[1]) for name, numbers in there.items() if len(numbers) == 2}
        means, halves = ({name: pair[i] for name, pair in told.items()} for i in (0, 1))
        known = [x for row in mine if not math.isnan(x := row.measures.get("reached", math.nan))]
        reached = sum(known) if known else math.nan
        lines.append(
            Line(
                setting,
                method,
                len(mine),
                means,
                halves,
                reached,
                dict(mine[0].facts),
                beside.get((setting, method)),
                pair,
            )
        )
    return lines


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % interval by Student's t; NaN where there are too few values."""
    import numpy as np
    from scipy.stats import t

    if not values:
        return math.nan, math.nan
    n = len(values)
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    return float(np.mean(values)), half


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
    """Write rows, of which all have the same columns; what is not a number is left empty, others have six digits."""
    write_csv(path, list(rows[0]) if rows else [], ([_text(value) for value in row.values()] for row in rows))


def _text(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}" if abs(value) < 1e5 else f"{value:.0f}"
    return value
