"""Results of a benchmark: measures with their certainty over seeds, and the best of many."""

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fedtransfer.common.support.text import size
from fedtransfer.simulations.report.reading import Benchmark, Row, real
from fedtransfer.simulations.report.texts import epsilon, names
from fedtransfer.simulations.scoring.estimate import BASELINES, Estimate

_LEVELS = 3  # of ε that are named


@dataclass(frozen=True)
class Result:
    """A method in a setting: its row of ``table.csv``, and those of ``cells.csv``, one a seed."""

    row: Row
    cells: Sequence[Row]

    @property
    def method(self) -> str:
        """Its name."""
        return self.row["method"]

    @property
    def accuracy(self) -> float:
        """The mean on the common test set; NaN if it is missing."""
        return real(self.row["accuracy"])

    @property
    def epsilon(self) -> float:
        """What it claims; NaN for no promise."""
        return real(self.row.get("epsilon"))

    @property
    def level(self) -> str:
        """ε as a text, "" for no promise."""
        return epsilon(self.epsilon) if self.row.get("epsilon") else ""

    @property
    def family(self) -> str:
        """The method without its ε: ``fed3r`` for ``fed3r+epsilon=0.5`` and ``fed3r ε=0.5``."""
        bare = re.sub(r"[\s,+_-]*\(?(?:epsilon|eps|ε)?\s*=?\s*[\d.]+\)?$", "", self.method)
        return bare if bare and self.level else self.method

    @property
    def alone(self) -> float | None:
        """The share of sites with better local heads on their own test images, None if unknown."""
        share = real(self.row.get("worse_than_local"))
        return None if math.isnan(share) else share

    @property
    def bytes(self) -> float:
        """Bytes to and from a site in a run, or until 95 % of pooled where only these are known."""
        both = real(self.row.get("bytes_up")) + real(self.row.get("bytes_down"))
        return real(self.row.get("bytes")) if math.isnan(both) else both

    def estimate(self, name: str) -> Estimate:
        """Return a measure: from three seeds on with the interval, of two with both values."""
        mean, half = real(self.row.get(name)), real(self.row.get(f"{name}_interval"))
        values = sorted(value for cell in self.cells if not math.isnan(value := real(cell.get(name))))
        count = len(values) if values else real(self.row.get("seeds"))
        if math.isnan(half) or count == 1:
            return Estimate(mean, n=1)
        if count == 2:
            return Estimate(mean, values[0], values[1], 2) if values else Estimate(mean, n=2)
        return Estimate(mean, mean - half, mean + half, len(values) or 3)

    @property
    def ends(self) -> tuple[float, float] | None:
        """Ends of the accuracy's interval, in [0, 1]; both values of two seeds; None of one."""
        share = self.estimate("accuracy")
        return None if math.isnan(share.low) else (max(0.0, share.low), min(1.0, share.high))

    def text(self, name: str = "accuracy") -> str:
        """Return a measure as a text, with its interval or both values; "" for nothing."""
        measure = self.estimate(name)
        if math.isnan(measure.mean):
            return ""
        if name.startswith("bytes"):
            return size(measure.mean)
        if name in ("peak_mb", "reached"):
            return f"{measure.mean:,.0f}" + " MB" * (name == "peak_mb")
        share = name in names("shares") or name in names("shares_of_adapted_heads")
        points = name in names("points")
        factor, digits = (100 if share or points else 1), (3 if name in names("numbers") else 1)
        text = measure.text(lambda value: f"{factor * value:{'+' * points},.{digits}f}".replace("-", "−"))
        return text + "\u00a0%" * share


class Results(tuple[Result, ...]):
    """Results of a benchmark, such as those of a setting."""

    @property
    def federated(self) -> "Results":
        """Those of methods that have an accuracy, baselines left out."""
        return Results(one for one in self if one.method not in BASELINES and one.row["accuracy"])

    @property
    def pooled(self) -> "Results":
        """Those of heads of all images in one place that have an accuracy."""
        return Results(one for one in self if one.method.startswith("pooled") and one.row["accuracy"])

    @property
    def by_level(self) -> dict[str, "Results"]:
        """ε as a text, "" for no promise → its results."""
        levels = dict.fromkeys(one.level for one in self)
        return {level: Results(one for one in self if one.level == level) for level in levels}

    @property
    def best(self) -> Result | None:
        """The one of the highest accuracy, None of nothing."""
        return max(self, key=lambda one: one.accuracy, default=None)

    @property
    def as_good(self) -> "Results":
        """The best, and those whose interval, or range of two seeds, overlaps with its own."""
        top = self.best
        low = top.ends[0] if top and top.ends else math.inf
        return Results(one for one in self if one is top or (one.ends and one.ends[1] >= low))

    @property
    def on_own_images(self) -> tuple[float, float] | None:
        """Mean accuracy on sites' own test images, None if unknown: (best method, alone)."""
        top, local = self.federated.best, [one for one in self if one.method == "local only"]
        pair = [real(one.row.get("own_mean")) for one in (top, *local[:1]) if one]
        return None if len(pair) < 2 or any(map(math.isnan, pair)) else (pair[0], pair[1])


def by_setting(benchmark: Benchmark) -> dict[str, Results]:
    """Return setting → its results."""
    groups: dict[str, list[Result]] = {}
    for row in benchmark.table:
        result = Result(row, benchmark.seeds_of.get((row["setting"], row["method"]), ()))
        groups.setdefault(row["setting"], []).append(result)
    return {setting: Results(group) for setting, group in groups.items()}


def results(benchmark: Benchmark) -> Results:
    """Return all results, in the order of settings."""
    return Results(result for group in by_setting(benchmark).values() for result in group)


def few(levels: Collection[str]) -> list[str]:
    """Return ε, as texts, from the largest, of many the first and last; "" is first if there."""
    as_number = {level: float(level.replace(",", "").replace("∞", "inf")) for level in levels if level}
    falling = sorted(as_number, key=lambda level: -as_number[level])
    return [""] * ("" in levels) + (falling if len(falling) <= _LEVELS else [falling[0], falling[-1]])
