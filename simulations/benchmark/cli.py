"""``fedtransfer benchmark``: compares methods by a plan of runs."""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from fedtransfer.common.errors import UserError
from fedtransfer.simulations.benchmark import PRESETS

_PRESETS = ", ".join(f"{name} ({time})" for name, time in PRESETS.items())


def benchmark(
    plan: Annotated[Path | None, typer.Argument(help="What to run.", metavar="[PLAN.toml]", show_default=False)] = None,
    preset: Annotated[
        str, typer.Option(help=f"Run a bundled plan, each with about its time on 2 cores: {_PRESETS}.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the runs and tables; finished runs in it are kept (default: runs/benchmark-NAME).",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Location of data that the plan names, such as pacs=FOLDER; repeatable.", metavar="NAME=PATH"
        ),
    ] = None,
    store: Annotated[str, typer.Option(help="Folder of the feature store (default: the user's cache).")] = "",
    processes: Annotated[
        int, typer.Option(help="Number of parallel runs (0: one a core, as far as memory allows).", min=0)
    ] = 0,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace finished runs whose settings in the plan have changed."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what the plan would run and what it needs, and run nothing.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Run every setting x method x seed of a plan, and table the results next to baselines, with 95 % intervals.

    [bold]fedtransfer benchmark PLAN.toml[/bold] runs a plan of your own;
    [bold]fedtransfer benchmark --preset NAME[/bold] one that is bundled.
    [bold]--dry-run[/bold] says first what either would run, and what it needs.

    A stopped benchmark resumes where it was. A plan may get more seeds, methods
    and settings between runs; if the settings of finished runs have changed, it
    is refused. Failed runs are listed at the end, and the exit status is 1. The
    folder holds table.csv, cells.csv, benchmark.json, report.html and a run
    folder a run.

    Baselines, always: local only, pooled softmax, ridge, NCM and LDA, majority
    class. Measures: accuracy, balanced accuracy, macro precision and F1, AUROC,
    NLL, ECE, worst site and worst tenth of sites, share worse off than alone,
    paired difference to the method named fedavg, rounds and bytes to 95 % of
    pooled softmax, bytes, seconds, peak memory.

    In a plan a list stands for each of its values: alpha = [0.1, 0.5]. Its table
    tuning lets validation images choose settings; its tables expected add
    published numbers to the table. docs/benchmarks.md explains plans.

    [bold]Examples[/bold]

    fedtransfer benchmark --preset quick

    fedtransfer benchmark PLAN.toml --out runs/mine --data pacs=FOLDER --dry-run
    """
    from rich.console import Console

    from fedtransfer.common.support.text import plain
    from fedtransfer.simulations.benchmark.plans import bundled_plan, read_plan
    from fedtransfer.simulations.benchmark.record import open_folder, write_record
    from fedtransfer.simulations.benchmark.runs import run_plan
    from fedtransfer.simulations.benchmark.terminal import missing_methods, results_table
    from fedtransfer.simulations.report.benchmark_runs import grouped
    from fedtransfer.simulations.report.page import write_report

    if (plan is None) == (not preset):
        raise UserError(
            f"benchmark: got {'a plan and --preset' if plan else 'neither a plan nor --preset'}; expected one of "
            "PLAN.toml and --preset NAME"
        )
    console = Console(stderr=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    path = plan or bundled_plan(preset)
    folder = out or Path("runs") / f"benchmark-{path.stem}"
    runs = read_plan(path, folder, dict(_name_and_path(pair) for pair in data or []), store)
    if dry_run:
        from fedtransfer.simulations.benchmark.dry_run import described

        time = {"time": f"{PRESETS[preset]} on 2 cores, roughly"} if preset else {}
        return _print_description(described(runs, folder) | time, json_output)
    for remark in (*runs.remarks, *open_folder(folder, runs, force)):
        say(remark)
    try:
        measured = run_plan(runs, folder, processes, cores, say, force)
    except KeyboardInterrupt:
        done = sum((Path(cell.config.out) / "measured.json").is_file() for cell in runs.cells)
        say(f"stopped: {done} of {len(runs.cells)} runs are done; the same command resumes")
        raise typer.Exit(130) from None
    command = shlex.join(["fedtransfer", *sys.argv[1:]])
    write_record(folder, command, runs, measured)
    write_report([folder], folder / "report.html", command)
    Console(width=None if sys.stdout.isatty() else 120, stderr=json_output).print(results_table(measured.lines))
    say(", ".join(f"{part} {seconds:.0f} s" for part, seconds in measured.seconds.items()))
    say(f"Report: {folder / 'report.html'}; table.csv next to it has every measure")
    if json_output:
        table = [plain(line.columns) for line in measured.lines]
        print(json.dumps({"table": table, "failures": measured.failures, "seconds": measured.seconds}, indent=2))
    for remark in missing_methods(runs.expected, measured.lines):
        say(remark)
    for failure in grouped(measured.failures, {line.setting for line in measured.lines}):
        say(str(failure))
    if measured.failures:
        say(f"To change settings, edit a copy of {folder / 'plan.toml'}: it is a plan too")
        raise typer.Exit(1)


def _print_description(description: dict[str, str], json_output: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if json_output:
        return print(json.dumps(description, indent=2))
    grid = Table.grid(padding=(0, 2))
    for subject, text in description.items():
        grid.add_row(subject, Text(text))
    Console(highlight=False).print(grid)


def _name_and_path(pair: str) -> tuple[str, str]:
    name, separator, path = pair.partition("=")
    if not separator or not name or not path:
        raise UserError(f"--data: got {pair!r}; expected NAME=PATH, such as pacs=images/pacs")
    return name, path
