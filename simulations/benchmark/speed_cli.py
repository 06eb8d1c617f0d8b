"""``fedtransfer benchmark speed`` and ``fedtransfer benchmark extraction``."""

import json
from collections.abc import Mapping, Sequence
from statistics import median

from rich import box
from rich.table import Table

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.terminal import table_console
from fedtransfer.simulations.benchmark import speed
from fedtransfer.simulations.benchmark.speed import Line

ROUNDS = 10


def measure_speed(subject: str, repeats: int, rivals: Sequence[str], *, json_output: bool) -> None:
    """Measure, and print a table or JSON.

    Args:
        subject: ``speed`` or ``extraction``.
        repeats: how often each system takes its turn.
        rivals: NAME=COMMAND, each a command that prints a line of JSON as ours do; for ``speed``.

    Raises:
        UserError: a rival is not NAME=COMMAND, or a command fails.
    """
    if wrong := [pair for pair in rivals if not all(pair.partition("="))]:
        raise UserError(f"--rival: got {wrong[0]!r}; expected NAME=COMMAND")
    if subject == "speed":
        named = {name: command for name, _, command in (pair.partition("=") for pair in rivals)}
        commands = speed.speed_commands(ROUNDS, named)
    elif rivals:
        raise UserError("--rival goes with benchmark speed; extraction has the compiled Keras loop")
    else:
        commands = speed.extraction_commands()
    lines = speed.measure_in_turn(commands, repeats)
    if json_output:
        print(json.dumps(lines, indent=2))
    else:
        table_console().print(_rounds(lines) if subject == "speed" else _extraction(lines))


def _rounds(lines: Mapping[str, Sequence[Line]]) -> Table:
    ours = lines[speed.KINDS["plain"][0]]
    title = (
        f"{ROUNDS} rounds of {speed.CLIENTS} clients, {speed.EXAMPLES} vectors of width {speed.WIDTH} each"
    )
    caption = "ratios of one turn each; below 1: fedtransfer is faster"
    table = Table(title=title, caption=caption, box=box.SIMPLE)
    table.add_column("system")
    for column in ("steady round, s", "ours : this", "whole job, s", "ours : this", "peak MB"):
        table.add_column(column, justify="right")
    for system, these in lines.items():
        cells = []
        for key in ("steady_round_s", "total_s"):
            ratios = [us[key] / it[key] for us, it in zip(ours, these, strict=True)]
            cells += [_turns([line[key] for line in these], 3), _turns(ratios, 2)]
        table.add_row(system, *cells, f"{max(line['peak_mb'] for line in these):,}")
    return table


def _extraction(lines: Mapping[str, Sequence[Line]]) -> Table:
    table = Table(title="Images a second", caption="ratios of one turn each", box=box.SIMPLE)
    table.add_column("system: network")
    for column in ("images a second", "times the Keras loop"):
        table.add_column(column, justify="right")
    for system, these in lines.items():
        network = system.partition(": ")[2]
        loop = lines[f"compiled Keras loop: {network}"]
        ratios = [us["images_per_s"] / it["images_per_s"] for us, it in zip(these, loop, strict=True)]
        table.add_row(system, _turns([line["images_per_s"] for line in these], 0), _turns(ratios, 2))
    return table


def _turns(values: Sequence[float], digits: int) -> str:
    """Show the median, and the range if there are several turns."""
    text = f"{median(values):.{digits}f}"
    if len(values) > 1:
        text += f" ({min(values):.{digits}f} to {max(values):.{digits}f})"
    return text
