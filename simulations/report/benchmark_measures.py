"""A benchmark's measures: their names, how certain they are over its seeds, and how they are told."""

import math
from collections.abc import Collection
from dataclasses import dataclass

from fedtransfer.common.support.text import counted, size
from fedtransfer.simulations.report.blocks import span
from fedtransfer.simulations.report.reading import Benchmark, Row, real

SHARES = {
    "accuracy": "accuracy",
    "own_mean": "own images, mean of sites",
    "worst_site": "worst site",
    "bottom_decile": "worst tenth of sites",
    "worse_than_local": "sites worse off than alone",
}
ADAPTED = {
    "personal": "personal heads",
    "personal_mixed": "personal heads, mixed",
    "personal_worse": "worse by personal heads",
    "unseen": "unseen sites",
    "unseen_adapted": "unseen sites, adapted",
}
POINTS = {"difference": "difference to fedavg, points"}
NUMBERS = {"auroc": "AUROC", "nll": "log loss, nats", "ece": "calibration error"}
COSTS = {
    "rounds": "rounds to 95 % of pooled",
    "reached": "seeds that got there",
    "bytes": "bytes to 95 % of pooled",
    "bytes_up": "bytes sent",
    "bytes_down": "bytes received",
    "seconds_features": "s, features",
    "seconds_training": "s, training",
    "seconds_aggregation": "s, aggregation",
    "peak_mb": "peak memory",
}
_FOR_AN_INTERVAL = 3  # values: Student's interval of two is 13 times as wide as they are apart


@dataclass(frozen=True)
class Measure:
    """A measure over the seeds of a row.

    Attributes:
        mean: NaN where no seed has it.
        half: half of the 95 % interval, NaN for less than three values.
        values: the least and the greatest, where there are two values.
    """

    mean: float
    half: float = math.nan
    values: tuple[float, float] | None = None

    @property
    def ends(self) -> tuple[float, float] | None:
        """Of a share: the interval, within 0 and 1, or the two values."""
        if math.isnan(self.half):
            return self.values
        return max(0.0, self.mean - self.half), min(1.0, self.mean + self.half)


def measure(benchmark: Benchmark, row: Row, name: str) -> Measure:
    """Return a row's measure, with an interval where three seeds or more have it."""
    mean, half = real(row.get(name)), real(row.get(f"{name}_interval"))
    cells = benchmark.seeds_of.get((row["setting"], row["method"]), ())
    values = sorted(value for cell in cells if not math.isnan(value := real(cell.get(name))))
    count = len(values) if values else real(row.get("seeds"))
    if math.isnan(half) or not count < _FOR_AN_INTERVAL:
        return Measure(mean, half)
    return Measure(mean, values=(values[0], values[-1]) if len(values) > 1 else None)


def certainty(benchmark: Benchmark) -> str:
    """Say what stands beside the means."""
    counts = seeds(benchmark)
    if not counts or min(counts) >= _FOR_AN_INTERVAL:
        return "Means over seeds; ± is half of the 95 % interval."
    if max(counts) == 1:
        return "From one seed each: how much another would change is not known."
    if max(counts) < _FOR_AN_INTERVAL:
        return "Means over two seeds, in parentheses both values: two are too few for an interval."
    return "Means over seeds; ± is half of the 95 % interval, of two seeds both values stand in parentheses instead."


def bars(benchmark: Benchmark) -> str:
    """Say what the bars of a figure are."""
    counts = seeds(benchmark)
    if not counts or min(counts) >= _FOR_AN_INTERVAL:
        return " Bars are 95 % intervals over seeds."
    if max(counts) == 1:
        return " From one seed each."
    return f" Bars span the values of two seeds{'' if max(counts) == 2 else ', or 95 % intervals of more'}."


def seeds(benchmark: Benchmark) -> Collection[int]:
    """Return with how many seeds the rows are made."""
    return sorted({int(real(row["seeds"])) for row in benchmark.table if row.get("seeds")})


def seeds_each(benchmark: Benchmark) -> str:
    """Say with how many seeds the rows are made: ``5 seeds each``."""
    counts = list(seeds(benchmark))
    if not counts:
        return "? seeds each"
    return f"{counted(counts[0], 'seed') if len(counts) == 1 else span(str(counts[0]), f'{counts[-1]} seeds')} each"


def by_setting(benchmark: Benchmark) -> dict[str, list[Row]]:
    """Return setting → its rows of the table."""
    groups: dict[str, list[Row]] = {}
    for row in benchmark.table:
        groups.setdefault(row["setting"], []).append(row)
    return groups


def bytes_of(row: Row) -> float:
    """Return bytes to and from a site in a whole run, or until 95 % of pooled where only these are known."""
    both = real(row.get("bytes_up")) + real(row.get("bytes_down"))
    return real(row.get("bytes")) if math.isnan(both) else both


def told(benchmark: Benchmark, row: Row, name: str) -> str:
    """Return a measure as it is told: mean ± half of the 95 % interval, or both values; an empty text where there is none."""
    found = measure(benchmark, row, name)
    if math.isnan(found.mean):
        return ""
    if name.startswith("bytes"):
        return size(found.mean)
    if name == "peak_mb":
        return f"{found.mean:,.0f} MB"
    if name == "reached":
        return f"{found.mean:,.0f}"
    factor, digits = (100, 1) if name in {**SHARES, **ADAPTED, **POINTS} else (1, 3 if name in NUMBERS else 1)
    sign = "+" if name in POINTS else ""

    def written(value: float) -> str:
        return f"{factor * value:{sign},.{digits}f}".replace("-", "−")

    text = written(found.mean)
    if not math.isnan(found.half):
        text += f" ± {factor * found.half:,.{digits}f}"
    elif found.values:
        text += f" ({written(found.values[0])} to {written(found.values[1])})"
    return text + "\u00a0%" * (name in SHARES or name in ADAPTED)
