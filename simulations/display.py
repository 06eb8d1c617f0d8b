"""What a person sees of a running simulation: progress bars, a live table of rounds, the summary.

Everything goes to standard error, so that ``--json`` has standard output to itself. Where that is no terminal, plain
lines take the place of what moves.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from common.config import RunConfig
from common.terminal import percent, progress_bar
from server.callbacks import Callback, Start
from server.records import Round
from simulations.baselines import Baselines

_VISIBLE_ROUNDS = 12


class Display:
    """Shows progress on a console."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def bar(self, what: str, unit: str = "") -> AbstractContextManager[Callable[[int, int], None]]:
        """Show a bar for a piece of work; yield the function that is told (done, total)."""
        return progress_bar(self.console, what, unit)

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
        table.add_row("federated", *map(percent, federated), style="bold")
        table.add_row("pooled", *map(percent, (pooled.common, pooled.own_mean, pooled.own_worst)))
        table.add_row("local only, mean", *map(percent, local_mean))
        table.add_row("local only, worst", percent(summary["baselines"]["local_worst"]), "", "")
        table.add_row("majority class", *map(percent, (majority.common, majority.own_mean, majority.own_worst)))
        table.add_row("each site's majority", "", percent(own["local_majority"]), "")
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
    validation = (percent(record.validation.accuracy), f"{record.validation.mean_loss:.3f}")
    return [
        name,
        percent(record.test.accuracy),
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
        table.add_row(site, percent(accuracy), percent(baselines.pooled.own.get(site)), percent(local))
    return table
