"""Finished runs: ``fedtransfer runs`` lists them, ``fedtransfer report`` makes a page of some."""

import json
import math
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fedtransfer.common.config.config import read_config
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.text import ago, size
from fedtransfer.simulations.report.reading import Run, read_folder, real


@dataclass(frozen=True)
class Row:
    """One run."""

    folder: str
    data: str
    strategy: str
    rounds: int  # of training; for an unfinished run, those planned
    sites: int
    accuracy: float  # of the head, on the test images of all sites; NaN if unknown
    balanced_accuracy: float  # of the same
    bytes: float  # received and sent by a site over the whole run; NaN if unfinished
    epsilon: float  # spent; infinite without differential privacy
    when: str  # it finished or, if unfinished, began (ISO 8601, UTC)
    finished: bool  # whether it has a ``summary.json``


def list_runs(folder: Path) -> list[Row]:
    """List the runs in a folder and below, the newest last, without those of benchmarks.

    Raises:
        UserError: there is no such folder, or a run in it cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one with run folders in it, such as runs")
    return sorted((_row(run) for run in _runs(folder)), key=lambda row: row.when)


def balanced_accuracy(run: Run) -> float:
    """Return the mean over classes of the share that a run's head gets right; NaN if unknown."""
    return real(run.measured.get("balanced_accuracy", run.measured.get("macro_recall")))


def _runs(folder: Path) -> Iterator[Path]:
    """Yield the run folders. A run folder holds no other runs."""
    if (folder / "config.toml").is_file():
        yield folder
    elif not (folder / "benchmark.json").is_file():
        for entry in sorted(folder.iterdir()):
            if entry.is_dir() and not entry.name.startswith("."):
                yield from _runs(entry)


def _row(folder: Path) -> Row:
    finished = (folder / "summary.json").is_file()
    moment = (folder / ("summary.json" if finished else "config.toml")).stat().st_mtime
    when = datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
    run = read_folder(folder) if finished else None
    if isinstance(run, Run):
        config, rounds, sites = run.config, run.summary["rounds"], run.summary["sites"]
        scores = run.accuracy, balanced_accuracy(run), sum(run.bytes), run.epsilon
    else:
        config = read_config(folder / "config.toml")
        rounds, sites, scores = config.training_rounds, config.participants, (math.nan,) * 4
    return Row(
        str(folder), config.data, config.strategy, rounds, sites, *scores, when, finished=isinstance(run, Run)
    )


def runs(
    folder: Annotated[
        Path, typer.Argument(help="The folder with the run folders.", metavar="[FOLDER]")
    ] = Path("runs"),
    json_output: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the runs in a folder: data, strategy, rounds, sites, accuracy, bytes, epsilon, and when.

    [bold]Example[/bold]

    fedtransfer runs
    """
    from rich.table import Table

    from fedtransfer.common.support.terminal import percent, table_console

    rows = list_runs(folder)
    if json_output:
        items = [
            {
                key: value if not isinstance(value, float) or math.isfinite(value) else None
                for key, value in row.items()
            }
            for row in map(asdict, rows)
        ]
        return print(json.dumps(items, indent=2, ensure_ascii=False))
    table = Table(
        "run", "data", "strategy", "rounds", "sites", "accuracy", "balanced", "bytes a site", "epsilon",
        "when", caption="bytes: received and sent by a site in the whole run",
    )  # fmt: skip
    for row in rows:
        name = str(Path(row.folder).relative_to(folder)) if Path(row.folder) != folder else row.folder
        epsilon = f"{row.epsilon:.3g}" if math.isfinite(row.epsilon) else "–"
        scores = (
            (percent(row.accuracy), percent(row.balanced_accuracy)) if row.finished else ("unfinished", "–")
        )
        sent = size(row.bytes) if row.finished else "–"
        table.add_row(
            name, Path(row.data).stem, row.strategy, str(row.rounds), str(row.sites), *scores, sent, epsilon,
            ago(datetime.fromisoformat(row.when)),
        )  # fmt: skip
    table_console().print(table)


class Open(StrEnum):
    """Whether to open the page in the browser."""

    yes = "yes"
    no = "no"


def report(
    folders: Annotated[list[Path], typer.Argument(
        help="Folders of runs, benchmarks or audits; several runs are compared.", metavar="RUN…",
        show_default=False)],
    out: Annotated[Path | None, typer.Option(
        help="The file to write (default: report.html in the folder; with several folders, here).",
        metavar="FILE", show_default=False)] = None,
    open_: Annotated[Open, typer.Option("--open", help="Open it in the browser.")] = Open.no,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is no report.")] = False,
) -> None:  # fmt: skip
    """Write a page about runs, benchmarks or audits:
    words, figures, tables, settings, how to repeat it.

    The page is one file that loads nothing else: it opens offline, in light and dark, and prints.

    [bold]Examples[/bold]

    fedtransfer report runs/NAME

    fedtransfer report runs/plain runs/private --out compared.html --open yes
    """
    from fedtransfer.simulations.report.page import is_report, write_report

    target = out or (folders[0] / "report.html" if len(folders) == 1 else Path("report.html"))
    if target.is_dir():
        raise UserError(f"--out {target}: is a folder; expected a file, such as {target / 'report.html'}")
    if target.exists() and not is_report(target) and not force:
        raise UserError(
            f"{target} exists and is not a report of fedtransfer; "
            "choose another --out, or give --force to replace it"
        )
    command = ["fedtransfer", "report", *map(str, folders), *(["--out", str(out)] if out else [])]
    write_report(folders, target, shlex.join(command))
    print(target)
    if open_ is Open.yes and typer.launch(target.resolve().as_uri()) != 0:
        print(f"no browser could be started; open {target} yourself", file=sys.stderr)
