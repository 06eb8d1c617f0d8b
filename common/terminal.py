"""What commands show while they work, and how they write numbers."""

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


@contextmanager
def progress_bar(console: Console, what: str, unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """Show a bar for a piece of work; yield the function that is told (done, total).

    Where the console is no terminal, a line at each tenth takes its place, with the time that is left.
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
        seen = 0

        def update(done: int, total: int) -> None:
            nonlocal seen
            progress.update(task, completed=done, total=total)
            if not console.is_terminal and unit and total and done * 10 // total > seen:
                seen = done * 10 // total
                left = progress.tasks[0].time_remaining
                console.print(f"{what}: {done} of {total} {unit}" + (f", {left:.0f} s left" if left else ""))

        yield update
        if seen == 0 and progress.tasks[0].total is None:
            progress.update(task, completed=1, total=1)


def percent(share: float | None) -> str:
    """Write a share as a percentage; a dash where there is none."""
    return "–" if share is None or share != share else f"{100 * share:.1f} %"
