"""The command ``fedtransfer runs``: the runs in a folder, as a table."""

import json
import math
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from fedtransfer.common.support.text import ago, size


def runs(
    folder: Annotated[Path, typer.Argument(help="The folder with the run folders.", metavar="[FOLDER]")] = Path("runs"),
    json_output: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the runs in a folder: data, strategy, rounds, sites, accuracy, bytes, epsilon, and when.

    [bold]Example[/bold]

    fedtransfer runs
    """
    from rich.table import Table

    from fedtransfer.common.support.terminal import percent, table_console
    from fedtransfer.simulations.run_list import list_runs

    rows = list_runs(folder)
    if json_output:
        items = [
            {key: value if not isinstance(value, float) or math.isfinite(value) else None for key, value in row.items()}
            for row in map(asdict, rows)
        ]
        return print(json.dumps(items, indent=2, ensure_ascii=False))
    table = Table(
        "run", "data", "strategy", "rounds", "sites", "accuracy", "balanced", "bytes a site", "epsilon", "when",
        caption="bytes: received and sent by a site in the whole run",
    )  # fmt: skip
    for row in rows:
        name = str(Path(row.folder).relative_to(folder)) if Path(row.folder) != folder else row.folder
        epsilon = f"{row.epsilon:.3g}" if math.isfinite(row.epsilon) else "–"
        scores = (percent(row.accuracy), percent(row.balanced_accuracy)) if row.finished else ("unfinished", "–")
        sent = size(row.bytes) if row.finished else "–"
        table.add_row(
            name, Path(row.data).stem, row.strategy, str(row.rounds), str(row.sites), *scores, sent, epsilon,
            ago(datetime.fromisoformat(row.when)),
        )  # fmt: skip
    table_console().print(table)
