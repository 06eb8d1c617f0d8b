"""``fedtransfer benchmark``: compares methods by a plan of runs."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedtransfer.common.errors import UserError
from fedtransfer.simulations.benchmark import PRESETS

_PRESETS = ", ".join(f"{name} ({time})" for name, time in PRESETS.items())


def benchmark(
    plan: Annotated[
        Path | None,
        typer.Argument(help="What to run.", metavar="[PLAN.toml|speed|extraction]", show_default=False),
    ] = None,
    preset: Annotated[
        str, typer.Option(help=f"Run a bundled plan, each with about its time on 2 cores: {_PRESETS}.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the runs and tables; finished runs in it are kept "
            "(default: runs/benchmark-NAME).",
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
        bool,
        typer.Option("--dry-run", help="Say what the plan would run and what it needs, and run nothing."),
    ] = False,
    repeats: Annotated[int, typer.Option(help="Turns of each system (speed and extraction).", min=1)] = 3,
    rival: Annotated[
        list[str] | None,
        typer.Option(
            help="Another system for speed: a command that prints a line of JSON as fedtransfer's do "
            "(docs/performance.md); repeatable.",
            metavar="NAME=COMMAND",
        ),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Run every setting x method x seed of a plan,
    and table the results next to baselines, with 95 % intervals.

    [bold]fedtransfer benchmark PLAN.toml[/bold] runs a plan of your own;
    [bold]fedtransfer benchmark --preset NAME[/bold] one that is bundled.
    [bold]--dry-run[/bold] says first what either would run, and what it needs.
    [bold]fedtransfer benchmark speed[/bold] measures seconds a round next to a plain loop and
    other systems, [bold]extraction[/bold] images a second next to a compiled Keras loop.

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
    from fedtransfer.common.support.text import plain
    from fedtransfer.simulations.benchmark.folder import described, open_folder
    from fedtransfer.simulations.benchmark.plans import bundled_plan, read_plan
    from fedtransfer.simulations.benchmark.runs import run_plan
    from fedtransfer.simulations.benchmark.tables import missing_methods, results_table
    from fedtransfer.simulations.report.benchmark_runs import grouped

    if str(plan) in ("speed", "extraction"):
        from fedtransfer.simulations.benchmark.speed_cli import measure_speed

        return measure_speed(str(plan), repeats, rival or [], json_output=json_output)
    if (plan is None) == (not preset):
        got = "a plan and --preset" if plan else "neither a plan nor --preset"
        raise UserError(f"benchmark: got {got}; expected one of PLAN.toml and --preset NAME")
    console = Console(stderr=True)

    def say(line: object) -> None:
        console.print(str(line), highlight=False, markup=False, soft_wrap=True)

    path = plan or bundled_plan(preset)
    folder = out or Path("runs") / f"benchmark-{path.stem}"
    places = {name: place for name, _, place in (pair.partition("=") for pair in data or [])}
    if wrong := [pair for pair in data or [] if not all(pair.partition("="))]:
        raise UserError(f"--data: got {wrong[0]!r}; expected NAME=PATH, such as pacs=images/pacs")
    runs = read_plan(path, folder, places, store)
    if dry_run:
        facts = described(runs, folder)
        facts |= {"time": f"{PRESETS[preset]} on 2 cores, roughly"} if preset else {}
        if json_output:
            return print(json.dumps(facts, indent=2))
        grid = Table.grid(padding=(0, 2))
        for subject, text in facts.items():
            grid.add_row(subject, Text(text))
        return Console(highlight=False).print(grid)
    for remark in (*runs.remarks, *open_folder(folder, runs, force)):
        say(remark)
    try:
        command = shlex.join(["fedtransfer", *sys.argv[1:]])
        measured = run_plan(runs, folder, processes, say, force=force, command=command)
    except KeyboardInterrupt:
        done = sum((Path(cell.config.out) / "measured.json").is_file() for cell in runs.cells)
        say(f"stopped: {done} of {len(runs.cells)} runs are done; the same command resumes")
        raise typer.Exit(130) from None
    width = None if sys.stdout.isatty() else 120
    Console(width=width, stderr=json_output).print(results_table(measured.lines))
    say(", ".join(f"{part} {seconds:.0f} s" for part, seconds in measured.seconds.items()))
    say(f"Report: {folder / 'report.html'}; table.csv next to it has every measure")
    if json_output:
        table = [plain(line.columns) for line in measured.lines]
        record = {"table": table, "failures": measured.failures, "seconds": measured.seconds}
        print(json.dumps(record, indent=2))
    failures = grouped(measured.failures, {line.setting for line in measured.lines})
    for line in (*missing_methods(runs.expected, measured.lines), *failures):
        say(line)
    if failures:
        say(f"To change settings, edit a copy of {folder / 'plan.toml'}: it is a plan too")
        raise typer.Exit(1)
