"""What commands show while they work, and how they write numbers."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_QUIET = 5  # seconds between two lines


@contextmanager
def progress_bar(console: Console, what: str, unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """Show a bar for a piece of work; yield the function that is told (done, total).

    Where the console is no terminal, a line now and then takes its place, with the time that is left: at most one a tenth
    of the work and in five seconds, and one in the end.
    """
    columns: list[ProgressColumn] = [
        TextColumn("[bold]{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    if not unit:
        columns = [TextColumn("[bold]{task.description:<22}"), SpinnerColumn(), TimeElapsedColumn()]
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        seen, told = 0, 0.0

        def update(done: int, total: int) -> None:
            nonlocal seen, told
            progress.update(task, completed=done, total=total)
            elapsed = progress.tasks[0].elapsed or 0.0
            due = total and done * 10 // total > seen and (done >= total or elapsed > told + _QUIET)
            if due and unit and not console.is_terminal:
                seen, told, left = done * 10 // total, elapsed, progress.tasks[0].time_remaining
                console.print(f"{what}: {done} of {total} {unit}" + (f", {left:.0f} s left" if left else ""))

        yield update
        if seen == 0 and progress.tasks[0].total is None:
            progress.update(task, completed=1, total=1)


def table_console() -> Console:
    """Return a console for tables on standard output; where that is no terminal, rows are as long as they need to be."""
    return Console(width=None if sys.stdout.isatty() else 10_000)


def print_with_time(line: str) -> None:
    """Print a line behind the time of day, at once."""
    print(time.strftime("%H:%M:%S"), line, flush=True)


def percent(share: float | None) -> str:
    """Write a share as a percentage; a dash where there is none."""
    return "–" if share is None or share != share else f"{100 * share:.1f} %"
