"""The command ``fedtransfer report``: an HTML page about runs, benchmarks and audits."""

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fedtransfer.common.errors import UserError


class Open(StrEnum):
    """Whether to open the page in the browser."""

    yes = "yes"
    no = "no"


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of runs, benchmarks or audits; several runs are compared.", metavar="RUN…", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file to write (default: report.html in the folder; with several folders, here).",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    open_: Annotated[Open, typer.Option("--open", help="Open it in the browser.")] = Open.no,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is no report.")] = False,
) -> None:
    """Write a page about runs, benchmarks or audits: words, figures, tables, settings, how to repeat it.

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
            f"{target} exists and is not a report of fedtransfer; choose another --out, or give --force to replace it"
        )
    command = ["fedtransfer", "report", *map(str, folders), *(["--out", str(out)] if out else [])]
    write_report(folders, target, shlex.join(command))
    print(target)
    if open_ is Open.yes and typer.launch(target.resolve().as_uri()) != 0:
        print(f"no browser could be started; open {target} yourself", file=sys.stderr)
