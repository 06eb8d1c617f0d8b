"""A benchmark's measures: their names, their certainty over seeds, and their texts."""

import math

from fedtransfer.common.support.text import size
from fedtransfer.simulations.report.reading import Benchmark, Row, real
from fedtransfer.simulations.scoring.estimate import Estimate

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


def estimate(benchmark: Benchmark, row: Row, name: str) -> Estimate:
    """Return a row's measure: with the interval from three seeds on, of two seeds with both values."""
    mean, half = real(row.get(name)), real(row.get(f"{name}_interval"))
    cells = benchmark.seeds_of.get((row["setting"], row["method"]), ())
    values = sorted(value for cell in cells if not math.isnan(value := real(cell.get(name))))
    count = len(values) if values else real(row.get("seeds"))
    if math.isnan(half) or count == 1:
        return Estimate(mean, n=1)
    if count == 2:
        return Estimate(mean, values[0], values[1], 2) if values else Estimate(mean, n=2)
    return Estimate(mean, mean - half, mean + half, len(values) or 3)


def ends(benchmark: Benchmark, row: Row, name: str) -> tuple[float, float] | None:
    """Return the ends of a share's interval, within 0 and 1, or both values of two seeds; None for one seed."""
    share = estimate(benchmark, row, name)
    return None if math.isnan(share.low) else (max(0.0, share.low), min(1.0, share.high))


def seed_counts(benchmark: Benchmark) -> list[int]:
    """Return the different numbers of seeds of the rows, in order."""
    return sorted({int(real(row["seeds"])) for row in benchmark.table if row.get("seeds")})


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


def text_of(benchmark: Benchmark, row: Row, name: str) -> str:
    """Return a measure as a text, with its interval or both values; "" for nothing."""
    measure = estimate(benchmark, row, name)
    if math.isnan(measure.mean):
        return ""
    if name.startswith("bytes"):
        return size(measure.mean)
    if name in ("peak_mb", "reached"):
        return f"{measure.mean:,.0f}" + " MB" * (name == "peak_mb")
    factor, digits = (100, 1) if name in {**SHARES, **ADAPTED, **POINTS} else (1, 3 if name in NUMBERS else 1)
    sign = "+" if name in POINTS else ""
    text = measure.text(lambda value: f"{factor * value:{sign},.{digits}f}".replace("-", "−"))
    return text + "\u00a0%" * (name in SHARES or name in ADAPTED)
