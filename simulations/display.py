"""What a person sees of a running simulation: progress bars, a live table of rounds, the summary.

Everything goes to standard error, so that ``--json`` has standard output to itself. Where that is no terminal, plain
lines take the place of what moves.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from common.config import RunConfig
from server.callbacks import Callback, Start
from server.records import Round
from simulations.baselines import Baselines

_VISIBLE_ROUNDS = 12


class Display:
    """Shows progress on a console."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def bar(self, what: str, unit: str = "") -> Iterator[Callable[[int, int], None]]:
        """Show a bar for a piece of work; yield the function that is told (done, total)."""
        columns = [
            TextColumn("[bold]{task.description:<22}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        ]
        if not unit:
            columns = [TextColumn("[bold]{task.description:<22}"), SpinnerColumn(), TimeElapsedColumn()]
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as progress:
            task = progress.add_task(what, total=None)
            seen = 0

            def update(done: int, total: int) -> None:
                nonlocal seen
                progress.update(task, completed=done, total=total)
                if not self.console.is_terminal and unit and total and done * 4 // total > seen:
                    seen = done * 4 // total
                    self.console.print(f"{what}: {done} of {total} {unit}")

            yield update
            if seen == 0 and progress.tasks[0].total is None:
                progress.update(task, completed=1, total=1)

    @contextmanager
    def rounds(self, config: RunConfig) -> Iterator[Callback]:
        """Show the rounds as they come, under a bar; yield the callback that is told of them."""
        recent: list[Round] = []
        bar = Progress(
            TextColumn("[bold]Rounds                "),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        task = bar.add_task("", total=config.rounds)

        console = self.console

        class Shown(Callback):
            def on_start(self, start: Start) -> None:
                if start.resumed_after is not None:
                    console.print(f"Resumed after round {start.resumed_after} of {config.rounds}", highlight=False)
                    bar.update(task, completed=start.resumed_after)

            def on_round(self, record: Round) -> None:
                recent.append(record)
                del recent[:-_VISIBLE_ROUNDS]
                bar.update(task, completed=record.round if record.phase == "train" else config.rounds)
                notable = record.failure or record.refused or record.phase == "score"
                if console.is_terminal:
                    live.update(Group(_rounds_table(recent), bar))
                elif (record.round - 1) % max(1, config.rounds // 10) == 0 or notable:
                    console.print("  ".join(_cells(record)), highlight=False)

        if console.is_terminal:
            with Live(Group(_rounds_table(recent), bar), console=console, refresh_per_second=8) as live:
                yield Shown()
        else:
            console.print("  ".join(_COLUMNS), highlight=False)
            yield Shown()

    def summary(self, summary: dict[str, Any], baselines: Baselines) -> None:
        """Print the federation beside its baselines, and each site's own accuracy where sites are few."""
        table = Table(title="Accuracy on test images", title_style="bold", caption_style="dim")
        drawn = (
            f" ({len(baselines.local)} of {summary['sites']} sites)" if len(baselines.local) < summary["sites"] else ""
        )
        table.caption = f"pooled: all data in one place; local only: each site trains alone{drawn}"
        for name in ("method", "common test set", "own images, mean", "worst site"):
            table.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
        own = summary["baselines_on_own_test_images"]
        pooled, majority = baselines.pooled, baselines.majority
        federated = (summary["accuracy"], summary["mean_site_accuracy"], summary["worst_site_accuracy"])
        local_mean = (summary["baselines"]["local_mean"], own["local_mean"], own["local_worst"])
        table.add_row("federated", *map(_percent, federated), style="bold")
        table.add_row("pooled", *map(_percent, (pooled.common, pooled.own_mean, pooled.own_worst)))
        table.add_row("local only, mean", *map(_percent, local_mean))
        table.add_row("local only, worst", _percent(summary["baselines"]["local_worst"]), "", "")
        table.add_row("majority class", *map(_percent, (majority.common, majority.own_mean, majority.own_worst)))
        table.add_row("each site's majority", "", _percent(own["local_majority"]), "")
        self.console.print(table)
        for site, told in [*summary["sites_left_out"].items()][:10]:
            self.warn(f"{site} was left out {told['times']} times, the last time: {told['reason']}")
        for site, why in [*summary["sites_absent"].items(), *summary["sites_without_result"].items()][:10]:
            self.warn(f"{site} took no part or misses the result: {why}")
        sites = summary["site_accuracy"]
        if len(sites) <= 20:
            self.console.print(_sites_table(sites, baselines))

    def warn(self, text: str) -> None:
        """Print a warning."""
        self.console.print(f"warning: {text}", style="yellow", highlight=False, soft_wrap=True, markup=False)

    def print(self, text: str) -> None:
        """Print a line of text."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)


_COLUMNS = ("round", "accuracy", "loss", "val. accuracy", "val. loss", "sites", "seconds")


def _cells(record: Round) -> list[str]:
    name = f"{record.round:>5}" if record.phase == "train" else "final"
    validation = (_percent(record.validation.accuracy), f"{record.validation.mean_loss:.3f}")
    return [
        name,
        _percent(record.test.accuracy),
        f"{record.test.mean_loss:.3f}",
        *validation,
        f"{len(record.scores)}/{len(record.planned)}",
        f"{record.seconds:.2f}",
    ]


def _rounds_table(rounds: list[Round]) -> Table:
    table = Table(caption="scores are those of the head entering the round", caption_style="dim")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for record in rounds:
        table.add_row(*_cells(record), style="red" if record.failure else "green" if record.best else "")
    return table


def _sites_table(sites: dict[str, float], baselines: Baselines) -> Table:
    table = Table(title="Each site on its own test images", title_style="bold")
    for name in ("site", "federated", "pooled", "local only"):
        table.add_column(name, justify="left" if name == "site" else "right")
    for site, accuracy in sites.items():
        local = baselines.local[site].own.get(site) if site in baselines.local else None
        table.add_row(site, _percent(accuracy), _percent(baselines.pooled.own.get(site)), _percent(local))
    return table


def evaluation_table(summary: dict[str, Any], split: str) -> Table:
    """Lay out what ``client.inference.evaluate_model`` found."""
    scores = ("precision", "recall", "f1", "specificity", "auroc")
    title = (
        f"Accuracy {_percent(summary['accuracy'])} on {summary['images']} images ({split}); loss {summary['loss']:.3f}"
    )
    table = Table(title=title, title_style="bold", caption="recall of a class is its sensitivity", box=box.SIMPLE)
    for name in ("class", "images", "precision", "recall", "F1", "specificity", "AUROC"):
        table.add_column(name, justify="left" if name == "class" else "right")
    for name, row in summary["classes"].items():
        table.add_row(
            name, str(row["images"]), *(_percent(row[score]) for score in scores[:-1]), _decimal(row["auroc"])
        )
    table.add_section()
    macro = [summary[f"macro_{score}"] for score in scores]
    table.add_row("mean over classes", "", *map(_percent, macro[:-1]), _decimal(macro[-1]))
    return table


def _decimal(value: float) -> str:
    return "–" if value != value else f"{value:.3f}"


def _percent(share: float | None) -> str:
    return "–" if share is None or share != share else f"{100 * share:.1f} %"
