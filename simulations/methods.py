"""The table of methods, which ``fedtransfer methods`` prints: costs, leaks, and what protects."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from fedtransfer.common.config.config import BUNDLED, RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.methods import METHODS
from fedtransfer.common.methods.add_ons import ADD_ONS
from fedtransfer.common.methods.method import AddOn, Method, Sizes
from fedtransfer.common.support.text import nearest

WIDTHS = {BUNDLED: 256, "resnet50v2": 2048, "resnet101v2": 2048, "resnet152v2": 2048}
# Weights of all convolutions of the last stage: kernels and biases.
_STAGES = {name: 14_950_400 if width == 2048 else 2_097_152 for name, width in WIDTHS.items()}
ROWS: tuple[Method | AddOn, ...] = (*METHODS.values(), *ADD_ONS)


def sizes(backbone: str, classes: int, rounds: int) -> Sizes:
    """Return the sizes that the numbers of bytes depend on.

    Raises:
        UserError: the backbone is not in ``WIDTHS``, so its width is unknown until it is loaded.
    """
    if backbone not in WIDTHS:
        raise UserError(f"--backbone: got {backbone!r}; {nearest(backbone, list(WIDTHS))}")
    return Sizes(WIDTHS[backbone], classes, rounds, _STAGES[backbone])


def row(method: Method | AddOn, s: Sizes) -> Mapping[str, Any]:
    """Return a method's row: its facts, and its bytes a round and over a whole run.

    Over a run, a strategy's head goes down twice more: for the final scores, and as the result.
    """
    rounds = 1 if method.once else s.rounds
    # An add-on of one exchange comes on top of a strategy.
    whole = isinstance(method, Method) or not method.once
    down, up = (before(s) for before in method.before)
    return {
        "method": method.ask,
        "paper": method.paper,
        "sends": method.sends,
        "rounds": rounds,
        "bytes_down_a_round": method.down(s),
        "bytes_up_a_round": method.up(s),
        "bytes_down": rounds * method.down(s) + down + 2 * s.head * whole,
        "bytes_up": rounds * method.up(s) + up,
        "leaks": method.leaks,
        "secure_aggregation": f"--masks: {method.masks}",
        "differential_privacy": method.differential_privacy,
        "note": method.note,
    }


def methods(
    backbone: Annotated[str, typer.Option(help="The backbone, which sets the width of features.")] = BUNDLED,
    classes: Annotated[int, typer.Option(help="Number of classes.", min=2)] = 10,
    rounds: Annotated[
        int, typer.Option(help="Rounds of training, for the bytes of a whole run.", min=1)
    ] = RunConfig().rounds,
    json_output: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the methods:
    what a site sends, bytes, rounds, what the server learns, what could protect it.

    `fedtransfer privacy` says what a configuration promises; docs/privacy.md says what each
    protection does.

    [bold]Example[/bold]

    fedtransfer methods --backbone resnet50v2 --classes 100
    """
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
        texts = {
            **facts,
            "bytes": _bytes(facts),
            "leaks": facts["leaks"] if first == facts["method"] else f"as {first}",
        }
        for name in ("sends", "bytes", "leaks", "secure_aggregation", "differential_privacy", "note"):
            if texts[name]:
                console.print(f"  {name.replace('_', ' ')}: {texts[name]}", highlight=False, markup=False)
    note = (
        f"\nBytes of arrays to and from one site, for {backbone} and {classes} classes;"
        " up to 2 KB a message come on top."
        "\nBoth protections are off by default. fedtransfer privacy says what --masks and --dp promise."
    )
    console.print(note, highlight=False, style="dim")


def _bytes(row: Mapping[str, Any]) -> str:
    total = f"{row['bytes_down']:,} down, {row['bytes_up']:,} up"
    if row["rounds"] == 1:
        return f"{total}, once"
    round = f"{row['bytes_down_a_round']:,} down, {row['bytes_up_a_round']:,} up a round"
    return f"{round}; {total} in {row['rounds']} rounds"
