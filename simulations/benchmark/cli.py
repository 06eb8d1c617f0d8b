"""``fedtransfer benchmark``: methods by a plan, or this machine, each measurement in a process of its own."""

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import click
import typer
from typer.core import TyperGroup

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.text import plain
from fedtransfer.simulations.benchmark import PRESETS

_PRESETS = ", ".join(f"{name} ({time})" for name, time in PRESETS.items())


class PlanFirst(TyperGroup):
    """A group whose command ``plan`` is meant where no other is named: ``fedtransfer benchmark PLAN.toml``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the command's name before arguments that name none."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["plan", *args]
        return super().parse_args(ctx, args)


benchmark = typer.Typer(
    cls=PlanFirst,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help=f"""Compare methods by a plan of runs, or measure this machine.

    [bold]fedtransfer benchmark PLAN.toml[/bold] runs every setting x method x seed of a plan; its options are told by
    [bold]fedtransfer benchmark plan --help[/bold].

    [bold]fedtransfer benchmark --preset NAME[/bold] runs one that comes with it.
    Each with about its time on 2 cores: {_PRESETS}.

    [bold]--dry-run[/bold] says beforehand what either would make, and what it needs.

    [bold]fedtransfer benchmark speed[/bold], [bold]extraction[/bold] and [bold]federation[/bold] measure this machine.
    """,
)


@benchmark.command("plan")
def run(
    plan: Annotated[Path | None, typer.Argument(help="What to run.", metavar="[PLAN.toml]", show_default=False)] = None,
    preset: Annotated[
        str, typer.Option(help=f"Run a plan that comes with it, and about how long on 2 cores: {_PRESETS}.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the runs and tables; runs that are there are not made again (default: runs/benchmark-NAME).",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Where data are that the plan names, such as pacs=FOLDER; may be repeated.", metavar="NAME=PATH"
        ),
    ] = None,
    store: Annotated[str, typer.Option(help="Folder of the feature store (default: the user's cache).")] = "",
    processes: Annotated[
        int, typer.Option(help="Runs made at a time (0: one a core, as far as memory allows).", min=0)
    ] = 0,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Make finished runs again that have other settings in the plan now, and lose the old."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be made and what it needs, and make nothing.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Run every setting x method x seed of a plan, and table them beside baselines, with 95 % intervals.

    The word `plan` may be left out. Stopped and started again it goes on where
    it was, and a plan may get more seeds, methods and settings meanwhile; where
    finished runs have other settings now, it is refused. Runs that fail are named in the end, and the exit status is 1. The
    folder gets table.csv, cells.csv, benchmark.json, report.html and a run
    folder a run.

    Baselines, always: local only, pooled softmax, ridge, NCM and LDA, majority
    class. Measures: accuracy, balanced accuracy, macro precision and F1, AUROC,
    NLL, ECE, worst site and worst tenth of sites, share worse off than alone,
    paired difference to the method named fedavg, rounds and bytes to 95 % of
    pooled softmax, bytes, seconds, peak memory.

    In a plan a list stands for each of its values: alpha = [0.1, 0.5]. Its table
    tuning lets validation images choose settings, its tables expected put
    published numbers beside. docs/benchmarks.md shows how.

    [bold]Examples[/bold]

    fedtransfer benchmark --preset quick

    fedtransfer benchmark PLAN.toml --out runs/mine --data pacs=FOLDER --dry-run
    """
    import os

    from rich.console import Console

    from fedtransfer.simulations.benchmark.failures import told_once
    from fedtransfer.simulations.benchmark.plans import bundled_plan, read_plan
    from fedtransfer.simulations.benchmark.record import open_folder, write_record
    from fedtransfer.simulations.benchmark.runs import run_plan
    from fedtransfer.simulations.benchmark.terminal import not_run, shown
    from fedtransfer.simulations.report import write_report

    if (plan is None) == (not preset):
        raise UserError(
            f"benchmark: got {'a plan and --preset' if plan else 'neither a plan nor --preset'}; expected one of "
            "PLAN.toml and --preset NAME"
        )
    console = Console(stderr=True)

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    path = plan or bundled_plan(preset)
    folder = out or Path("runs") / f"benchmark-{path.stem}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    read = read_plan(path, folder, dict(_named(pair) for pair in data or []), store)
    if dry_run:
        from fedtransfer.simulations.benchmark.dry_run import described

        told = described(read, folder) | ({"time": f"{PRESETS[preset]} on 2 cores, roughly"} if preset else {})
        return _print_described(told, json_output)
    for remark in read.remarks:
        say(remark)
    for remark in open_folder(folder, read, force):
        say(remark)
    try:
        measured = run_plan(read, folder, processes, cores, say, force)
    except KeyboardInterrupt:
        done = sum((Path(cell.config.out) / "measured.json").is_file() for cell in read.cells)
        say(f"stopped: {done} of {len(read.cells)} runs are done; the same command goes on")
        raise typer.Exit(130) from None
    command = shlex.join(["fedtransfer", *sys.argv[1:]])
    write_record(folder, command, read, measured)
    write_report([folder], folder / "report.html", command)
    Console(width=None if sys.stdout.isatty() else 120, stderr=json_output).print(shown(measured.lines))
    say(", ".join(f"{part} {seconds:.0f} s" for part, seconds in measured.seconds.items()))
    say(f"{folder / 'report.html'} tells it in words and pictures; table.csv beside it has every measure")
    if json_output:
        table = [plain(line.columns) for line in measured.lines]
        print(json.dumps({"table": table, "failures": measured.failures, "seconds": measured.seconds}, indent=2))
    for remark in not_run(read.expected, measured.lines):
        say(remark)
    for failed in told_once(measured.failures, {line.setting for line in measured.lines}):
        say(str(failed))
    if measured.failures:
        say(f"A copy of {folder / 'plan.toml'}, with other settings, is a plan too")
        raise typer.Exit(1)


@benchmark.command()
def speed(
    rounds: Annotated[int, typer.Option(help="Rounds of training.", min=2)] = 10,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Measure seconds a round: 10 clients with 500 feature vectors of width 2048 each, 10 classes, one local epoch.

    The first line has no validation split and so no scoring in between; the second is with our defaults; the others are the
    first under differential privacy of sites and of images, with their rounds' time over the plain round's. Each runs
    in a process of its own, whose start and imports count.
    """
    plain: dict[str, Any] = {}
    for kind in ("plain", "defaults", "site", "image"):
        line = _measured([str(rounds), kind, str(time.time())], {})
        plain = plain or line
        if kind in ("site", "image"):
            line["times_plain"] = round(line["steady_round_s"] / plain["steady_round_s"], 2)
        _print(line, json_output)


@benchmark.command()
def extraction(
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Measure images a second through the bundled backbone, beside a bare loop over decoded batches."""
    _print(_measured(["extraction", "fedtransfer"], {}), json_output)
    _print(_measured(["extraction", "bare"], {"FEDTRANSFER_THREADS_PER_OPERATION": "0"}), json_output)


@benchmark.command()
def federation(
    sites: Annotated[int, typer.Option(help="Number of sites, each with processes of its own.", min=1)] = 2,
    rounds: Annotated[int, typer.Option(help="Rounds; the first does not count.", min=2)] = 20,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Measure seconds a round of a real federation on this machine, beside an app that does nothing.

    Coordinator, TLS and keys are the same; the app that does nothing runs on Flower's SuperNodes as they come.
    """
    from fedtransfer.simulations.benchmark.federation import measure

    for line in measure(sites, rounds):
        _print(line, json_output)


def _print_described(told: dict[str, str], json_output: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if json_output:
        return print(json.dumps(told, indent=2))
    grid = Table.grid(padding=(0, 2))
    for what, text in told.items():
        grid.add_row(what, Text(text))
    Console(highlight=False).print(grid)


def _named(pair: str) -> tuple[str, str]:
    name, is_pair, path = pair.partition("=")
    if not is_pair or not name or not path:
        raise UserError(f"--data: got {pair!r}; expected NAME=PATH, such as pacs=images/pacs")
    return name, path


def _measured(arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    import os
    import subprocess

    command = [sys.executable, "-m", "fedtransfer.simulations.benchmark.speed", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    if done.returncode:
        raise UserError(f"measurement {arguments} failed with exit status {done.returncode}; its message stands above")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _print(line: dict[str, Any], json_output: bool) -> None:
    print(json.dumps(line) if json_output else "  ".join(f"{key} {value}" for key, value in line.items()), flush=True)
