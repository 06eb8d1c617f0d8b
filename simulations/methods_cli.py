"""The command ``fedtransfer methods``: the methods, with their costs and leaks."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from fedtransfer.common.config.config import BUNDLED, RunConfig


def methods(
    backbone: Annotated[str, typer.Option(help="The backbone, which sets the width of features.")] = BUNDLED,
    classes: Annotated[int, typer.Option(help="Number of classes.", min=2)] = 10,
    rounds: Annotated[
        int, typer.Option(help="Rounds of training, for the bytes of a whole run.", min=1)
    ] = RunConfig().rounds,
    json_output: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the methods: what a site sends, bytes, rounds, what the server learns, what could protect it.

    `fedtransfer privacy` says what a configuration promises; docs/privacy.md says what each
    protection does.

    [bold]Example[/bold]

    fedtransfer methods --backbone resnet50v2 --classes 100
    """
    from fedtransfer.simulations.methods import ROWS, row, sizes

    rows = [row(method, sizes(backbone, classes, rounds)) for method in ROWS]
    if json_output:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    console = Console()
    printed: dict[str, str] = {}  # a leak → the first method that has it
    for facts in rows:
        console.print(f"\n[bold]{facts['method']}[/bold]  [dim]{facts['paper']}[/dim]", highlight=False)
        first = printed.setdefault(facts["leaks"], facts["method"])
        for name, text in (
            ("sends", facts["sends"]),
            ("bytes", _bytes(facts)),
            ("leaks", facts["leaks"] if first == facts["method"] else f"as {first}"),
            ("secure aggregation", facts["secure_aggregation"]),
            ("differential privacy", facts["differential_privacy"]),
            ("note", facts["note"]),
        ):  # fmt: skip
            if text:
                console.print(f"  {name}: {text}", highlight=False, markup=False)
    console.print(
        f"\nBytes of arrays to and from one site, for {backbone} and {classes} classes; up to 2 KB a message come on top."
        "\nBoth protections are off by default. fedtransfer privacy says what --masks and --dp promise.",
        highlight=False,
        style="dim",
    )


def _bytes(row: Mapping[str, Any]) -> str:
    total = f"{row['bytes_down']:,} down, {row['bytes_up']:,} up"
    if row["rounds"] == 1:
        return f"{total}, once"
    round = f"{row['bytes_down_a_round']:,} down, {row['bytes_up_a_round']:,} up a round"
    return f"{round}; {total} in {row['rounds']} rounds"
