"""What a person sees of a running simulation: progress bars, a live table of rounds, the summary.

Everything goes to standard error, so that ``--json`` has standard output to itself. Where that is no terminal, plain
lines take the place of what moves.
"""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.support.terminal import percent, progress_bar
from fedtransfer.common.support.text import counted
from fedtransfer.common.wire.personal import KINDS
from fedtransfer.server.callbacks import Callback, Start
from fedtransfer.server.run_folder.records import Round
from fedtransfer.simulations.scoring.baselines import Baselines

_VISIBLE_ROUNDS = 12
log = logging.getLogger(__name__)


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
        last = max(1, config.training_rounds)
        task = bar.add_task("", total=last)

        console, columns = self.console, _COLUMNS if config.private else _COLUMNS[:-1]

        def before_the_end(record: Round) -> bool:
            return record.phase in ("train", "sums") and not config.closed_form

        class Shown(Callback):
            def on_start(self, start: Start) -> None:
                if start.resumed_after is not None:
                    console.print(f"Resumed after round {start.resumed_after} of {config.rounds}", highlight=False)
                    bar.update(task, completed=start.resumed_after)

            def on_round(self, record: Round) -> None:
                recent.append(record)
                del recent[:-_VISIBLE_ROUNDS]
                bar.update(task, completed=record.round if before_the_end(record) else last)
                notable = record.failure or record.refused or record.phase != "train"
                if console.is_terminal:
                    live.update(Group(_rounds_table(recent, columns), bar))
                elif (record.round - 1) % max(1, config.rounds // 10) == 0 or notable:
                    console.print("  ".join(_cells(record)[: len(columns)]), highlight=False)

        if config.private and not config.public_data:
            self.print(f"With --dp {config.dp} sites send no scores, so these stay empty; --public-data gives some.")
        if console.is_terminal:
            with Live(Group(_rounds_table(recent, columns), bar), console=console, refresh_per_second=8) as live:
                yield Shown()
        else:
            console.print("  ".join(columns), highlight=False)
            yield Shown()

    def summary(self, summary: dict[str, Any], baselines: Baselines | None) -> None:
        """Print the federation beside its baselines, personal heads and unseen sites, as far as the run has them, and
        each site's own accuracy where sites are few.
        """
        self.console.print(_accuracy_table(summary, baselines))
        if (kept := summary["best_round"] - 1) < summary["rounds"]:
            self.print(
                f"Kept is the head after {kept} of {summary['rounds']} rounds: its validation loss is the lowest. The head after all "
                "of them, last-head.npz, has the accuracy of the round called final."
            )
        if "privacy" in summary:
            for line in privacy_in_words(summary):
                self.print(line)
        if "personal" in summary:
            self.console.print(_personal_table(summary["personal"]))
        if "unseen_sites" in summary:
            self.console.print(_unseen_table(summary["unseen_sites"]))
        for site, told in [*summary["sites_left_out"].items()][:10]:
            self.warn(f"{site} was left out {told['times']} times, the last time: {told['reason']}")
        for site, why in [*summary["sites_absent"].items(), *summary["sites_without_result"].items()][:10]:
            self.warn(f"{site} took no part or misses the result: {why}")
        sites = summary.get("measured_outside_the_federation", summary)["site_accuracy"]
        if len(sites) <= 20:
            self.console.print(_sites_table(sites, baselines))

    def warn(self, text: str) -> None:
        """Print a warning."""
        self.console.print(f"warning: {text}", style="yellow", highlight=False, soft_wrap=True, markup=False)

    def print(self, text: str) -> None:
        """Print a line of text."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)


class QuietDisplay(Display):
    """Shows nothing: warnings and remarks go to the log."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))

    def warn(self, text: str) -> None:
        """Log a warning."""
        log.warning("%s", text)

    def print(self, text: str) -> None:
        """Log a line of text."""
        log.info("%s", text)


def privacy_in_words(summary: dict[str, Any]) -> list[str]:
    """Say what a finished run promises and rests on, in lines."""
    told = summary["privacy"]
    sampled = "each in every release" if told["sampling"] == "all" else f"sampling {told['sampling']}"
    spent = "without bound" if told["epsilon"] is None else f"{told['epsilon']:.3g}"
    lines = [
        f"differential privacy: epsilon {spent} at delta {told['delta']:g}, unit: {told['unit']}, "
        f"{told['neighbours']}, {sampled}, {counted(told['releases'], 'release')}, noise multiplier {told['noise_multiplier']:.4g}, "
        f"clip {told['clip']:g}; trusted: {told['trust']}"
    ]
    if told["stopped_by_budget"]:
        lines.append(
            f"stopped after {summary['rounds']} of {summary['rounds_planned']} rounds: one more would have spent more than "
            + ("what is promised" if told["budget"] is None else f"epsilon {told['budget']:g}")
        )
    return lines


_COLUMNS = ("round", "accuracy", "loss", "val. accuracy", "val. loss", "sites", "seconds", "epsilon")


def _cells(record: Round) -> list[str]:
    name = f"{record.round:>5}" if record.phase == "train" else "final" if record.phase == "score" else record.phase
    validation = (percent(record.validation.accuracy), _loss(record.validation.mean_loss))
    return [
        name,
        percent(record.test.accuracy),
        _loss(record.test.mean_loss),
        *validation,
        f"{len(record.answers)}/{len(record.planned)}" if record.planned else "–",
        "–" if record.secret else f"{record.seconds:.2f}",
        "–" if record.epsilon is None else f"{record.epsilon:.3g}",
    ]


def _loss(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _rounds_table(rounds: list[Round], columns: tuple[str, ...]) -> Table:
    table = Table(caption="scores are those of the head entering the round", caption_style="dim")
    for name in columns:
        table.add_column(name, justify="right")
    for record in rounds:
        table.add_row(
            *_cells(record)[: len(columns)], style="red" if record.failure else "green" if record.best else ""
        )
    return table


def _accuracy_table(summary: dict[str, Any], baselines: Baselines | None) -> Table:
    images = (summary["images_by_split"] or {}).get("test")  # nobody knows, under differential privacy
    title = f"Accuracy on {counted(images, 'test image')}" if images else "Accuracy on test images"
    table = _table(title, "method", "common test set", "own images, mean", "worst site")
    columns = ("accuracy", "mean_site_accuracy", "worst_site_accuracy")
    if summary["scored_on"] == "public-data":
        table.add_row("federated, on public images", percent(summary["accuracy"]), "", "")
    if outside := summary.get("measured_outside_the_federation"):
        table.add_row("federated *", *(percent(outside[key]) for key in columns), style="bold")
    else:
        table.add_row("federated", *(percent(summary[key]) for key in columns), style="bold")
    note = "* measured outside the federation, on images that sites keep to themselves: a real one would not know it"
    table.caption = note if outside else None
    if not baselines:
        return table
    alone, sites = len(baselines.local), summary["sites"]
    drawn = f" ({alone} of {sites} sites)" if alone < sites else ""
    table.caption = f"pooled: all data in one place; local only: each site trains alone{drawn}"
    table.caption += "; both without noise" * ("privacy" in summary) + f"\n{note}" * bool(outside)
    own = summary["baselines_on_own_test_images"]
    pooled, majority = baselines.pooled, baselines.majority
    local_mean = (summary["baselines"]["local_mean"], own["local_mean"], own["local_worst"])
    table.add_row("pooled", *map(percent, (pooled.common, pooled.own_mean, pooled.own_worst)))
    table.add_row("local only, mean", *map(percent, local_mean))
    table.add_row("local only, worst", percent(summary["baselines"]["local_worst"]), "", "")
    table.add_row("majority class", *map(percent, (majority.common, majority.own_mean, majority.own_worst)))
    table.add_row("each site's majority", "", percent(own["local_majority"]), "")
    return table


def _personal_table(personal: dict[str, Any]) -> Table:
    columns = ("head", "mean", "worst site", "all images", "worse than\nglobal", "worse than\nlocal")
    table = _table("Personal heads on each site's own test images", *columns)
    share = "–" if personal["share"] is None else f"{personal['share']:.2f}"
    table.caption = f"over {personal['sites']} sites; mixed: {share} of the global head on average, the rest local"
    for kind in KINDS:
        told = personal[kind]
        shown = [told[key] for key in ("mean", "worst", "pooled")]
        harm = [percent(told[key]) if key in told else "" for key in ("worse_than_global", "worse_than_local")]
        table.add_row(kind.replace("_", "-"), *map(percent, shown), *harm)
    return table


def _unseen_table(unseen: dict[str, Any]) -> Table:
    table = _table("Sites that took no part", "images a class", "global, adapted", "from scratch", "got worse")
    epochs = "1 epoch" if unseen["epochs"] == 1 else f"{unseen['epochs']} epochs"
    table.caption = f"accuracy on own test images, mean of {unseen['sites']} sites; {epochs}"
    table.add_row("none", percent(unseen["global"]), "", "")
    for images, told in unseen["adapted"].items():
        table.add_row(images, *map(percent, (told["accuracy"], told["from_scratch"], told["got_worse"])))
    return table


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_style="bold", caption_style="dim")
    table.add_column(first, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _sites_table(sites: dict[str, float], baselines: Baselines | None) -> Table:
    others = ("pooled", "local only") if baselines else ()
    table = Table(title="Each site on its own test images", title_style="bold")
    for name in ("site", "federated", *others):
        table.add_column(name, justify="left" if name == "site" else "right")
    for site, accuracy in sites.items():
        shown: list[float | None] = [accuracy]
        if baselines:
            local = baselines.local[site].own.get(site) if site in baselines.local else None
            shown += [baselines.pooled.own.get(site), local]
        table.add_row(site, *map(percent, shown))
    return table
