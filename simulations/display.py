"""The display of a running simulation: progress bars, a live table of rounds, the summary.

Everything goes to standard error, so that ``--json`` has standard output to itself. If standard
error is no terminal, plain lines take the place of moving bars.
"""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.support.terminal import percent, progress_bar
from fedtransfer.common.support.text import counted
from fedtransfer.common.wire.protocol import PERSONAL_HEADS
from fedtransfer.server.callbacks import Callback, Round, Start
from fedtransfer.simulations.scoring.baselines import Baselines

_VISIBLE_ROUNDS = 12
log = logging.getLogger(__name__)


class Display:
    """Shows progress on a console."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def bar(self, title: str, unit: str = "") -> AbstractContextManager[Callable[[int, int], None]]:
        """Show a bar for a piece of work; yield the function that takes (done, total)."""
        return progress_bar(self.console, title, unit)

    @contextmanager
    def rounds(self, config: RunConfig) -> Iterator[Callback]:
        """Show each round as it ends, with a bar below; yield the callback for the run."""
        recent: list[Round] = []
        title = TextColumn("[bold]Rounds                ")
        bar = Progress(title, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        last = max(1, config.training_rounds)
        task = bar.add_task("", total=last)
        console, columns = self.console, _COLUMNS if config.private else _COLUMNS[:-1]

        class RoundsTable(Callback):
            def on_start(self, start: Start) -> None:
                if start.resumed_after is not None:
                    console.print(
                        f"Resumed after round {start.resumed_after} of {config.rounds}", highlight=False
                    )
                    bar.update(task, completed=start.resumed_after)

            def on_round(self, record: Round) -> None:
                recent.append(record)
                del recent[:-_VISIBLE_ROUNDS]
                before_the_end = record.phase in ("train", "sums") and not config.closed_form
                bar.update(task, completed=record.round if before_the_end else last)
                notable = record.failure or record.refused or record.phase != "train"
                if console.is_terminal:
                    live.update(Group(_rounds_table(recent, columns), bar))
                elif (record.round - 1) % max(1, config.rounds // 10) == 0 or notable:
                    console.print("  ".join(_cells(record)[: len(columns)]), highlight=False)

        if config.private and not config.public_data:
            self.print(
                f"With --dp {config.dp} sites send no scores, so these stay empty; --public-data gives some."
            )
        if console.is_terminal:
            with Live(
                Group(_rounds_table(recent, columns), bar), console=console, refresh_per_second=8
            ) as live:
                yield RoundsTable()
        else:
            console.print("  ".join(columns), highlight=False)
            yield RoundsTable()

    def summary(self, summary: dict[str, Any], baselines: Baselines | None) -> None:
        """Print the scores of a run: federation, baselines, personal heads and unseen sites.

        With up to 20 sites, print the accuracy at each site too.
        """
        self.console.print(_accuracy_table(summary, baselines))
        if (best := summary["best_round"] - 1) < summary["rounds"]:
            self.print(
                f"The run keeps the head after {best} of {summary['rounds']} rounds:"
                " its validation loss is the lowest."
                " The head after all rounds is last-head.npz; the round called final has its accuracy."
            )
        if "privacy" in summary:
            for line in privacy_in_words(summary):
                self.print(line)
        if "personal" in summary:
            self.console.print(_personal_table(summary["personal"]))
        if "unseen_sites" in summary:
            self.console.print(_unseen_table(summary["unseen_sites"]))
        if "attack" in summary:
            self.print(_attack_in_words(summary["attack"]))
        for site, refusals in [*summary["sites_left_out"].items()][:10]:
            self.warn(f"{site} was left out {refusals['times']} times, the last time: {refusals['reason']}")
        for site, reason in [*summary["sites_absent"].items(), *summary["sites_without_result"].items()][:10]:
            self.warn(f"{site} took no part or misses the result: {reason}")
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
    """Return lines on the differential privacy of a finished run: its ε, and what it relies on."""
    privacy = summary["privacy"]
    sampling = "each in every release" if privacy["sampling"] == "all" else f"sampling {privacy['sampling']}"
    epsilon = "without bound" if privacy["epsilon"] is None else f"{privacy['epsilon']:.3g}"
    lines = [
        f"differential privacy: epsilon {epsilon} at delta {privacy['delta']:g}, unit: {privacy['unit']}, "
        f"{privacy['neighbours']}, {sampling}, {counted(privacy['releases'], 'release')}, "
        f"noise multiplier {privacy['noise_multiplier']:.4g}, clip {privacy['clip']:g}; "
        f"trusted: {privacy['trust']}"
    ]
    if privacy["stopped_by_budget"]:
        budget = "the promise allows" if privacy["budget"] is None else f"epsilon {privacy['budget']:g}"
        lines.append(
            f"stopped after {summary['rounds']} of {summary['rounds_planned']} rounds:"
            f" one more would have spent more than {budget}"
        )
    return lines


_COLUMNS = ("round", "accuracy", "loss", "val. accuracy", "val. loss", "sites", "seconds", "epsilon")


def _cells(record: Round) -> list[str]:
    return [
        f"{record.round:>5}"
        if record.phase == "train"
        else "final"
        if record.phase == "score"
        else record.phase,
        percent(record.test.accuracy),
        _loss(record.test.mean_loss),
        percent(record.validation.accuracy),
        _loss(record.validation.mean_loss),
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
        style = "red" if record.failure else "green" if record.best else ""
        table.add_row(*_cells(record)[: len(columns)], style=style)
    return table


def _accuracy_table(summary: dict[str, Any], baselines: Baselines | None) -> Table:
    images = (summary["images_by_split"] or {}).get("test")  # unknown under differential privacy
    title = f"Accuracy on {counted(images, 'test image')}" if images else "Accuracy on test images"
    table = _table(title, "method", "common test set", "own images, mean", "worst site")
    columns = ("accuracy", "mean_site_accuracy", "worst_site_accuracy")
    if summary["scored_on"] == "public-data":
        table.add_row("federated, on public images", percent(summary["accuracy"]), "", "")
    outside = summary.get("measured_outside_the_federation")
    name = "federated *" if outside else "federated"
    table.add_row(name, *(percent((outside or summary)[key]) for key in columns), style="bold")
    note = "* measured outside the federation, on images that sites keep to themselves"
    table.caption = f"{note}: a real one would not know it" if outside else None
    if not baselines:
        return table
    alone, sites = len(baselines.local), summary["sites"]
    sample = f" ({alone} of {sites} sites)" if alone < sites else ""
    table.caption = f"pooled: all data in one place; local only: each site trains alone{sample}"
    table.caption += "; both without noise" * ("privacy" in summary) + f"\n{note}" * bool(outside)
    at_sites = summary["baselines_on_own_test_images"]
    pooled, majority = baselines.pooled, baselines.majority
    local_mean = (summary["baselines"]["local_mean"], at_sites["local_mean"], at_sites["local_worst"])
    table.add_row("pooled", *map(percent, (pooled.common, pooled.site_mean, pooled.site_worst)))
    table.add_row("local only, mean", *map(percent, local_mean))
    table.add_row("local only, worst", percent(summary["baselines"]["local_worst"]), "", "")
    table.add_row("majority class", *map(percent, (majority.common, majority.site_mean, majority.site_worst)))
    table.add_row("each site's majority", "", percent(at_sites["local_majority"]), "")
    return table


def _personal_table(personal: dict[str, Any]) -> Table:
    columns = ("head", "mean", "worst site", "all images", "worse than\nglobal", "worse than\nlocal")
    table = _table("Personal heads on each site's own test images", *columns)
    share = "–" if personal["share"] is None else f"{personal['share']:.2f}"
    table.caption = (
        f"over {personal['sites']} sites; mixed: {share} of the global head on average, the rest local"
    )
    for kind in PERSONAL_HEADS:
        scores = personal[kind]
        accuracy = [percent(scores[key]) for key in ("mean", "worst", "pooled")]
        harm = [
            percent(scores[key]) if key in scores else "" for key in ("worse_than_global", "worse_than_local")
        ]
        table.add_row(kind.replace("_", "-"), *accuracy, *harm)
    return table


def _attack_in_words(attack: dict[str, Any]) -> str:
    """Say who attacked, and what the head takes for the attackers' target."""
    return (
        f"Hostile sites: {', '.join(attack['sites'])}. The head takes for {attack['target']}: "
        f"{percent(attack['backdoor'])} of the other images with the pattern of a backdoor in them, "
        f"{percent(attack['mistaken'])} of {attack['source']}."
    )


def _unseen_table(unseen: dict[str, Any]) -> Table:
    table = _table(
        "Sites that took no part", "images a class", "global, adapted", "from scratch", "got worse"
    )
    epochs = counted(unseen["epochs"], "epoch")
    table.caption = f"accuracy on own test images, mean of {unseen['sites']} sites; {epochs}"
    table.add_row("none", percent(unseen["global"]), "", "")
    for images, scores in unseen["adapted"].items():
        table.add_row(images, *(percent(scores[key]) for key in ("accuracy", "from_scratch", "got_worse")))
    return table


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_style="bold", caption_style="dim")
    table.add_column(first, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _sites_table(sites: dict[str, float], baselines: Baselines | None) -> Table:
    others = ("pooled", "local only") if baselines else ()
    table = Table("site", title="Each site on its own test images", title_style="bold")
    for name in ("federated", *others):
        table.add_column(name, justify="right")
    for site, accuracy in sites.items():
        cells: list[float | None] = [accuracy]
        if baselines:
            local = baselines.local[site].site_accuracy.get(site) if site in baselines.local else None
            cells += [baselines.pooled.site_accuracy.get(site), local]
        table.add_row(site, *map(percent, cells))
    return table
