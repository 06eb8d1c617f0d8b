"""A benchmark's tables, in its folder and on the terminal; its picture of accuracy against ε."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.support.pictures import save_figure
from fedtransfer.common.support.spreadsheet import write_csv
from fedtransfer.common.support.text import size
from fedtransfer.simulations.benchmark.measures import Row
from fedtransfer.simulations.benchmark.plan_file import Expected
from fedtransfer.simulations.benchmark.plans import Plan
from fedtransfer.simulations.scoring.estimate import Estimate

# In the order of the columns; docs/benchmarks.md explains them.
MEASURES = (
    "accuracy", "balanced_accuracy", "macro_precision", "macro_f1", "auroc", "auroc_off", "nll", "ece",
    "own_mean", "worst_site", "bottom_decile", "worse_than_local", "difference", "rounds", "bytes",
    "bytes_up", "bytes_down", "seconds_features", "seconds_training", "seconds_aggregation", "peak_mb",
    "personal", "personal_mixed", "personal_worse", "unseen", "unseen_adapted", "backdoor", "mistaken",
)  # fmt: skip
FACTS = ("strategy", "attack", "epsilon", "delta", "backbone", "resolution", "preprocessing", "fingerprint")
REFERENCE = "fedavg"  # the method that differences are to
_COLUMNS = "method", "accuracy", "- fedavg", "balanced", "worst", "ECE", "bytes up", "rounds", "ε", "expected"
_MARKERS = "osD^vP*X"  # so that lines differ without colour too


@dataclass(frozen=True)
class Line:
    """A method in a setting over all seeds."""

    setting: str
    method: str
    seeds: int
    estimates: dict[str, Estimate]  # measure → its mean over the seeds that have it, with the interval
    reached: float  # runs that reached 95 % of pooled, over which rounds and bytes are means; NaN if unknown
    facts: dict[str, str]  # of features and privacy
    expected: Expected | None = None  # a published number next to which it stands

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
    """Add to each row its difference in accuracy to fedavg of its setting and seed, else NaN."""
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


def write_tables(folder: Path, rows: Sequence[Row], lines: Sequence[Line]) -> None:
    """Write ``cells.csv``, a row a run or baseline, and ``table.csv``, a row a setting and method.

    NaN becomes an empty cell, and numbers have six digits.
    """
    cells = [
        {"setting": row.setting, "method": row.method, "seed": row.seed}
        | {name: row.measures.get(name, math.nan) for name in MEASURES}
        | {name: row.facts.get(name, "") for name in FACTS}
        | {"seconds": row.seconds}
        for row in rows
    ]
    for name, table in (("cells.csv", cells), ("table.csv", [line.columns for line in lines])):
        write_csv(folder / name, list(table[0]), ([_text(value) for value in row.values()] for row in table))


def _text(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}" if abs(value) < 1e5 else f"{value:.0f}"
    return value


def results_table(lines: Sequence[Line]) -> Table:
    """Lay out the lines for a person, 120 columns wide at most, without empty columns."""
    interval = "mean ± half of the 95 % interval over seeds"
    if any(line.estimates[name].n == 2 for line in lines for name in ("accuracy", "difference")):
        two = "mean (both values) of two seeds, too few for an interval"
        interval = f"{two}; ± is half of the 95 % interval of more"
    table = Table(
        title="In %, on the common test set; worst: the site with the lowest accuracy on its own test images",
        caption=f"{interval}; differences to fedavg are paired by seed\n"
        "bytes that a site sends in the whole run; "
        "rounds until 95 % of pooled softmax, over the seeds that reached it",
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_style="bold", caption_style="dim",
    )  # fmt: skip
    rows = [_cells(line) for line in lines]
    filled = [i for i in range(len(_COLUMNS)) if any(row[i] for row in rows)]
    table.add_column(_COLUMNS[0], max_width=28, overflow="fold")
    for i in filled[1:]:
        table.add_column(_COLUMNS[i], justify="right", no_wrap=True, overflow="fold")
    setting = ""
    for line, row in zip(lines, rows, strict=True):
        if line.setting != setting:
            setting = line.setting
            table.add_section()
            table.add_row(f"[bold]{setting}[/bold]")
        table.add_row(*(row[i] for i in filled))
    return table


def _cells(line: Line) -> list[str]:
    def percent(name: str, sign: str = "") -> str:
        return line.estimates[name].text(lambda share: f"{100 * share:{sign}.1f}", ", ")

    def mean(name: str, digits: str, scale: int = 1) -> str:
        value = line.estimates[name].mean
        return "" if math.isnan(value) else f"{scale * value:{digits}}"

    rounds, sent = mean("rounds", ".0f"), line.estimates["bytes_up"].mean
    seeds = f" ({line.reached:.0f}/{line.seeds})" if rounds and line.reached < line.seeds else ""
    return [
        f" {line.method}",
        percent("accuracy"),
        percent("difference", "+"),
        mean("balanced_accuracy", ".1f", 100),
        mean("worst_site", ".1f", 100),
        mean("ece", ".3f"),
        "" if math.isnan(sent) else size(sent),
        rounds + seeds,
        f"{float(epsilon):.2g}" if (epsilon := line.facts.get("epsilon")) else "",
        f"{100 * line.expected.accuracy:.1f}" if line.expected else "",
    ]


def missing_methods(expected: Sequence[Expected], lines: Sequence[Line]) -> list[str]:
    """Say which expected numbers have no measured one, because their method was not run."""
    measured = {(line.setting, line.method) for line in lines}
    return [
        f"not run: {entry.setting}, {entry.method}; elsewhere {100 * entry.accuracy:.1f} % ({entry.source})"
        for entry in expected
        if (entry.setting, entry.method) not in measured
    ]


def plot_epsilon(plan: Plan, lines: Sequence[Line], path: Path) -> None:
    """Draw accuracy against ε on a logarithmic axis, a panel a setting, with 95 % intervals.

    A line joins the runs that differ only in ε; dotted is the same method without noise. Nothing is
    drawn if no run of the plan has an ε.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter, ScalarFormatter

    configs = {(cell.setting, cell.method): cell.config for cell in plan.cells}
    settings = list(dict.fromkeys(setting for (setting, _), config in configs.items() if config.epsilon))
    if not settings:
        return
    figure = Figure(figsize=(5.5 * len(settings), 4.4), layout="constrained")
    panels = figure.subplots(1, len(settings), squeeze=False, sharey=True)[0]
    names = list(dict.fromkeys(_name(config) for config in configs.values()))
    epsilons = sorted({config.epsilon for config in configs.values() if config.epsilon})
    points: dict[tuple[str, str], list[tuple[float, float, float]]] = defaultdict(list)
    for line in lines:
        if config := configs.get((line.setting, line.method)):
            accuracy = line.estimates["accuracy"]
            points[line.setting, _name(config)].append((config.epsilon, accuracy.mean, accuracy.half))
    for axes, setting in zip(panels, settings, strict=True):
        for i, name in enumerate(names):
            color, marker = f"C{i}", _MARKERS[i % len(_MARKERS)]
            if private := sorted(point for point in points[setting, name] if point[0]):
                axes.errorbar(*zip(*private, strict=True), label=name, color=color, marker=marker, capsize=3)
            for _, mean, _ in (point for point in points[setting, name] if not point[0]):
                axes.axhline(mean, color=color, linestyle=":", linewidth=1.5)
        axes.set(title=setting, xlabel="ε at the plan's δ (add or remove one unit)", xscale="log")
        axes.set_xticks(epsilons, minor=False)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy on the common test set")
    panels[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    title = "dotted: the same without noise"
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles), title=title)
    save_figure(figure, path)


def _name(config: RunConfig) -> str:
    """Return the name that runs share if they differ only in ε, the one without noise included."""
    projected = f", {config.dimensions} dimensions" if config.dimensions else ""
    return f"{config.strategy}{projected}"
