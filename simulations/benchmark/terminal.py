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
    interval = "mean ± half of the 95 % interval over seeds"
    if any(line.estimates[name].n == 2 for line in lines for name in ("accuracy", "difference")):
        interval = "mean (both values) of two seeds, too few for an interval; ± is half of the 95 % interval of more"
    table = Table(
        title="In %, on the common test set; worst: the site with the lowest accuracy on its own test images",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption=f"{interval}; differences to fedavg are paired by seed\n"
        "bytes that a site sends in the whole run; rounds until 95 % of pooled softmax, over the seeds that reached it",
        title_style="bold",
        caption_style="dim",
    )
    rows = [_cells(line) for line in lines]
    filled = [i for i, _ in enumerate(_COLUMNS) if any(row[i] for row in rows)]
    for i in filled:
        first = i == 0
        table.add_column(
            _COLUMNS[i], justify="left" if first else "right", no_wrap=not first, max_width=28 if first else None,
            overflow="fold",
        )  # fmt: skip
    for i, (line, row) in enumerate(zip(lines, rows, strict=True)):
        if i == 0 or lines[i - 1].setting != line.setting:
            table.add_section()
            table.add_row(f"[bold]{line.setting}[/bold]")
        table.add_row(*(row[k] for k in filled))
    return table


def missing_methods(expected: Sequence[Expected], lines: Sequence[Line]) -> list[str]:
    """Say which expected numbers have no measured one, because their method was not run."""
    measured = {(line.setting, line.method) for line in lines}
    return [
        f"not run: {entry.setting}, {entry.method}; elsewhere {100 * entry.accuracy:.1f} % ({entry.source})"
        for entry in expected
        if (entry.setting, entry.method) not in measured
    ]


def _cells(line: Line) -> list[str]:
    def percent(name: str, sign: str = "") -> str:
        return line.estimates[name].text(lambda share: f"{100 * share:{sign}.1f}", ", ")

    mean = {name: estimate.mean for name, estimate in line.estimates.items()}
    seeds = f" ({line.reached:.0f}/{line.seeds})" if line.reached < line.seeds else ""
    return [
        f" {line.method}",
        percent("accuracy"),
        percent("difference", "+"),
        _number(100 * mean["balanced_accuracy"], ".1f"),
        _number(100 * mean["worst_site"], ".1f"),
        _number(mean["ece"], ".3f"),
        "" if math.isnan(mean["bytes_up"]) else size(mean["bytes_up"]),
        _number(mean["rounds"], ".0f") + ("" if math.isnan(mean["rounds"]) else seeds),
        f"{float(epsilon):.2g}" if (epsilon := line.facts.get("epsilon")) else "",
        f"{100 * line.expected.accuracy:.1f}" if line.expected else "",
    ]


def _number(value: float, digits: str) -> str:
    return "" if math.isnan(value) else f"{value:{digits}}"
