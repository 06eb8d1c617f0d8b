"""What the runs of a plan say together: a row a run, and a row a setting and method."""

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rich.table import Table

REACHED = 0.95  # of the pooled softmax head's accuracy


@dataclass(frozen=True)
class Row:
    """A run.

    Attributes:
        accuracy: of the head it delivered, on the common test set.
        rounds: before a head first reached 95 % of the pooled softmax head's accuracy; NaN for never.
        bytes: to and from a site until then.
        seconds_of_rounds: that all exchanges took.
        seconds: that the run took as a whole; 0 where it had been made before.
    """

    setting: str
    method: str
    seed: int
    accuracy: float
    rounds: float = math.nan
    bytes: float = math.nan
    seconds_of_rounds: float = math.nan
    seconds: float = 0.0


@dataclass(frozen=True)
class Line:
    """A method in a setting over all seeds: means, with half the width of 95 % intervals.

    Attributes:
        reached: runs that reached 95 % of pooled; rounds and bytes are means over these.
    """

    setting: str
    method: str
    seeds: int
    accuracy: float
    accuracy_interval: float
    reached: int
    rounds: float
    rounds_interval: float
    bytes: float
    bytes_interval: float
    seconds_of_rounds: float


def summarise(rows: Iterable[Row]) -> list[Line]:
    """Summarise runs over seeds, in the order in which settings and methods first come."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.setting, row.method].append(row)
    lines = []
    for (setting, method), mine in groups.items():
        there = [row for row in mine if not math.isnan(row.rounds)]
        accuracy = mean_and_interval([row.accuracy for row in mine])
        rounds, size = (mean_and_interval([getattr(row, name) for row in there]) for name in ("rounds", "bytes"))
        seconds, _ = mean_and_interval([row.seconds_of_rounds for row in mine])
        lines.append(Line(setting, method, len(mine), *accuracy, len(there), *rounds, *size, seconds))
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


def write_table(path: Path, kind: type[Any], rows: Iterable[Any]) -> None:
    """Write dataclasses of one kind as a CSV file; what is not a number is left empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(kind)])
        writer.writeheader()
        writer.writerows({key: "" if value != value else value for key, value in asdict(row).items()} for row in rows)


def shown(lines: Sequence[Line]) -> Table:
    """Lay the lines out for a person, a section a setting."""
    table = Table(
        title="Accuracy on the common test set; rounds and bytes a site to 95 % of pooled",
        caption="mean ± half of the 95 % interval over seeds; rounds and bytes over the seeds that got there",
        title_style="bold",
        caption_style="dim",
    )
    for name in ("setting", "method", "accuracy, %", "got there", "rounds", "kB", "seconds"):
        table.add_column(name, justify="left" if name in ("setting", "method") else "right", no_wrap=True)
    for i, line in enumerate(lines):
        first = i == 0 or lines[i - 1].setting != line.setting
        if first and i:
            table.add_section()
        baseline = math.isnan(line.seconds_of_rounds)
        table.add_row(
            line.setting if first else "",
            line.method,
            _pair(100 * line.accuracy, 100 * line.accuracy_interval),
            "" if baseline else f"{line.reached} of {line.seeds}",
            _pair(line.rounds, line.rounds_interval),
            _pair(line.bytes / 1000, line.bytes_interval / 1000),
            "" if baseline else f"{line.seconds_of_rounds:.1f}",
        )
    return table


def _pair(mean: float, half: float) -> str:
    return "" if math.isnan(mean) else f"{mean:.1f}" + ("" if math.isnan(half) else f" ± {half:.1f}")
