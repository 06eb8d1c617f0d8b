"""The table of a benchmark for a person: 120 columns wide at most, a section a setting."""

import math
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from fedtransfer.common.support.text import size
from fedtransfer.simulations.benchmark.plan_file import Expected
from fedtransfer.simulations.benchmark.tables import Line

_COLUMNS = ("method", "accuracy", "- fedavg", "balanced", "worst", "ECE", "bytes up", "rounds", "ε", "expected")


def results_table(lines: Sequence[Line]) -> Table:
    """Lay out the lines; empty columns are left out."""
    table = Table(
        title="In %, on the common test set; worst: the site that does worst on its own test images",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption=f"{_certainty(lines)}; differences to fedavg are paired by seed\n"
        "bytes that a site sends in the whole run; rounds until 95 % of pooled softmax, over the seeds that got there",
        title_style="bold",
        caption_style="dim",
    )
    rows = [_cells(line) for line in lines]
    kept = [i for i, _ in enumerate(_COLUMNS) if any(row[i] for row in rows)]
    for i in kept:
        first = i == 0
        table.add_column(
            _COLUMNS[i], justify="left" if first else "right", no_wrap=not first, max_width=28 if first else None,
            overflow="fold",
        )  # fmt: skip
    for i, (line, row) in enumerate(zip(lines, rows, strict=True)):
        if i == 0 or lines[i - 1].setting != line.setting:
            table.add_section()
            table.add_row(f"[bold]{line.setting}[/bold]")
        table.add_row(*(row[k] for k in kept))
    return table


def missing_methods(expected: Sequence[Expected], lines: Sequence[Line]) -> list[str]:
    """Say which expected numbers have no measured one, because their method was not run."""
    run = {(line.setting, line.method) for line in lines}
    return [
        f"not run: {entry.setting}, {entry.method}; elsewhere {100 * entry.accuracy:.1f} % ({entry.source})"
        for entry in expected
        if (entry.setting, entry.method) not in run
    ]


def _certainty(lines: Sequence[Line]) -> str:
    if any({"accuracy", "difference"} & line.pair.keys() for line in lines):
        return "mean (both values) of two seeds, too few for an interval; ± is half of the 95 % interval of more"
    return "mean ± half of the 95 % interval over seeds"


def _cells(line: Line) -> list[str]:
    mean = line.mean
    some = f" ({line.reached:.0f}/{line.seeds})" if line.reached < line.seeds else ""
    return [
        f" {line.method}",
        _percent(line, "accuracy"),
        _percent(line, "difference", "+"),
        _mean(line, "balanced_accuracy"),
        _mean(line, "worst_site"),
        "" if math.isnan(mean["ece"]) else f"{mean['ece']:.3f}",
        "" if math.isnan(mean["bytes_up"]) else size(mean["bytes_up"]),
        "" if math.isnan(mean["rounds"]) else f"{mean['rounds']:.0f}{some}",
        f"{float(epsilon):.2g}" if (epsilon := line.facts.get("epsilon")) else "",
        f"{100 * line.expected.accuracy:.1f}" if line.expected else "",
    ]


def _percent(line: Line, name: str, sign: str = "") -> str:
    """Tell a share in % with its interval; of two seeds with both values."""
    mean = _mean(line, name, sign)
    if name in line.pair:
        least, most = (f"{100 * value:{sign}.1f}" for value in line.pair[name])
        return f"{mean} ({least}, {most})"
    half = line.interval[name]
    return mean if math.isnan(half) else f"{mean} ± {100 * half:.1f}"


def _mean(line: Line, name: str, sign: str = "") -> str:
    value = line.mean[name]
    return "" if math.isnan(value) else f"{100 * value:{sign}.1f}"
