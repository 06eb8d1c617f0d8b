"""The command ``fedtransfer privacy``: what a configuration promises, before it runs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fedtransfer.common.config.config import PRESETS, resolve_config
from fedtransfer.common.config.options import with_config_options
from fedtransfer.common.support.text import counted


@with_config_options()
def privacy(
    file: Annotated[Path | None, typer.Argument(
        help="TOML file of settings, such as a run's config.toml.", metavar="CONFIG",
        show_default=False)] = None,
    preset: Annotated[str, typer.Option(help=f"Start from a named recipe: {', '.join(PRESETS)}.")] = "",
    images: Annotated[int, typer.Option(
        help="Training images of all sites together, if that number is public.", min=0)] = 0,
    json_output: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
    *,
    settings: dict[str, Any],
) -> None:  # fmt: skip
    """Explain the promises of a configuration:
    who learns what, epsilon, assumptions, noise and signal.

    It takes a file of settings, the options of `fedtransfer simulate`, or both, and runs nothing.

    [bold]Examples[/bold]

    fedtransfer privacy runs/NAME/config.toml

    fedtransfer privacy --dp image --epsilon 2 --weighting uniform --rounds 20 \\
        --classes declared --class-names cat,dog
    """
    from rich.console import Console

    config = resolve_config(preset=preset, file=file, overrides=settings)
    with Console(stderr=True).status("Accounting …"):
        from fedtransfer.simulations.privacy.statement import statement

        answers = statement(config, len(config.declared_classes) or 10, images)
    if json_output:
        print(json.dumps(answers, indent=2, ensure_ascii=False))
        return
    console = Console()
    for line in _lines(answers):
        console.print(line, highlight=False)


def _lines(answers: Mapping[str, Any]) -> list[str]:
    lines = [
        "[bold]Who learns what[/bold]",
        *(f"  {party}: {text}" for party, text in answers["learns"].items()),
    ]
    lines.append("\n[bold]What is promised[/bold]")
    if promise := answers["privacy"]:
        lines += [
            f"  epsilon {promise['epsilon']:.3g} at delta {promise['delta']:g} for one {promise['unit']}"
            f" ({promise['neighbours']}); by Rényi orders {promise['epsilon_by_renyi_orders']:.3g}",
            f"  noise multiplier {promise['noise_multiplier']:.4g}, clip {promise['clip']:g},"
            f" sampling: {promise['sampling']}, {counted(promise['releases'], 'release')}"
            f" in {counted(promise['rounds'], 'round')}",
        ]
        if promise["rounds"] < (planned := promise["rounds_planned"]):
            lines.append(f"  the budget ends the run before round {promise['rounds'] + 1} of {planned}")
        lines += ["\n[bold]Noise and signal[/bold]", f"  {answers['strength']['words']}"]
        lines += [f"  [bold red]{text}[/bold red]" for text in answers["warnings"]]
    else:
        lines.append(
            "  no differential privacy: nothing limits what others can learn about an image or a site"
        )
    for title, key in (("What must hold for it", "assumed"), ("What is not protected", "not_protected")):
        lines += [f"\n[bold]{title}[/bold]", *(f"  - {text}" for text in answers[key])]
    return lines
