"""``fedtransfer benchmark``: measure this machine, each measurement in a process of its own."""

import json
import sys
import time
from typing import Annotated, Any

import typer

from common.errors import UserError

benchmark = typer.Typer(no_args_is_help=True, help="Measure this machine.")


@benchmark.command()
def speed(
    rounds: Annotated[int, typer.Option(help="Rounds of training.", min=2)] = 10,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Measure seconds a round: 10 clients with 500 feature vectors of width 2048 each, 10 classes, one local epoch.

    The first line has no validation split and so no scoring in between; the second is with our defaults. Each runs in
    a process of its own, whose start and imports count.
    """
    for kind in ("plain", "defaults"):
        _measure([str(rounds), kind, str(time.time())], json_output, {})


@benchmark.command()
def extraction(
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Measure images a second through the bundled backbone, beside a bare loop over decoded batches."""
    _measure(["extraction", "fedtransfer"], json_output, {})
    _measure(["extraction", "bare"], json_output, {"FEDTRANSFER_THREADS_PER_OPERATION": "0"})


@benchmark.command()
def federation(
    sites: Annotated[int, typer.Option(help="Number of sites, each with processes of its own.", min=1)] = 2,
    rounds: Annotated[int, typer.Option(help="Rounds; the first does not count.", min=2)] = 20,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Measure seconds a round of a real federation on this machine, beside an app that does nothing.

    Coordinator, TLS and keys are the same; the app that does nothing runs on Flower's SuperNodes as they come.
    """
    from simulations.benchmark_federation import measure

    for line in measure(sites, rounds):
        _print(line, json_output)


def _measure(arguments: list[str], json_output: bool, environment: dict[str, str]) -> None:
    import os
    import subprocess

    command = [sys.executable, "-m", "simulations.benchmark", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    if done.returncode:
        raise UserError(f"measurement {arguments} failed with exit status {done.returncode}; its message stands above")
    line = json.loads(done.stdout.splitlines()[-1])
    _print(line, json_output)


def _print(line: dict[str, Any], json_output: bool) -> None:
    print(json.dumps(line) if json_output else "  ".join(f"{key} {value}" for key, value in line.items()), flush=True)
