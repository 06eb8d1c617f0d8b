"""Progress bars, tables and numbers on the terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress as bars
from rich.console import Console

_PAUSE = 5  # seconds between two lines


@contextmanager
def progress_bar(console: Console, title: str, unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar; yield the function to call with (done, total).

    If the console is not a terminal, print lines with the remaining time instead: at most one for
    each tenth of the work and one in five seconds, and one at the end.
    """
    columns: list[bars.ProgressColumn] = [bars.TextColumn("[bold]{task.description:<22}")]
    if unit:
        columns += [bars.BarColumn(), bars.MofNCompleteColumn(), bars.TextColumn(unit)]
        columns += [bars.TimeElapsedColumn(), bars.TimeRemainingColumn()]
    else:
        columns += [bars.SpinnerColumn(), bars.TimeElapsedColumn()]
    with bars.Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=None)
        tenths, printed_at = 0, 0.0

        def update(done: int, total: int) -> None:
            nonlocal tenths, printed_at
            progress.update(task, completed=done, total=total)
            elapsed = progress.tasks[0].elapsed or 0.0
            due = total and done * 10 // total > tenths and (done >= total or elapsed > printed_at + _PAUSE)
            if due and unit and not console.is_terminal:
                tenths, printed_at, left = done * 10 // total, elapsed, progress.tasks[0].time_remaining
                console.print(f"{title}: {done} of {total} {unit}" + (f", {left:.0f} s left" if left else ""))

        yield update
        if tenths == 0 and progress.tasks[0].total is None:
            progress.update(task, completed=1, total=1)


def table_console() -> Console:
    """Return a console for tables on standard output, whose rows are wrapped on a terminal only."""
    return Console(width=None if sys.stdout.isatty() else 10_000)


def print_with_time(line: str) -> None:
    """Print a line after the time of day, without buffering."""
    print(time.strftime("%H:%M:%S"), line, flush=True)


def percent(share: float | None) -> str:
    """Return a share as a percentage; a dash for None and NaN."""
    return "–" if share is None or share != share else f"{100 * share:.1f} %"
