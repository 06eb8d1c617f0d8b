"""``fedtransfer audit``: what a federation gives away, measured by attacking it."""

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from fedtransfer.common.errors import UserError


def audit(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a finished run of fedtransfer simulate, to be attacked as it is.",
            metavar="RUN",
            show_default=False,
        ),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(help="In place of a run: quick or full, each strategy under each protection.", show_default=False),
    ] = "",
    plan: Annotated[
        Path | None,
        typer.Option(help="In place of a run: a plan of your own, a TOML file as the presets are.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for table, curves and report (default: RUN/audit, or audits/PRESET).", show_default=False
        ),
    ] = None,
    shadows: Annotated[
        int,
        typer.Option(
            help="Shadow federations of membership inference (0: those of the plan, 128 for a run).", min=0, max=1024
        ),
    ] = 0,
    data: Annotated[str, typer.Option(help="Other data than the plan's; not for a run.", show_default=False)] = "",
    store: Annotated[str, typer.Option(help="Folder of the feature store (default: the user's cache).")] = "",
    pictures: Annotated[
        bool,
        typer.Option(
            "--pictures/--no-pictures",
            help="Leave original training images, and what was rebuilt of them, in the folder and its report.",
        ),
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace what an earlier audit left in the folder.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Attack a federation as a curious server or a curious member would, and say what came of it.

    The server's view, round one: numbers of images by class and features, read off what each site sends; images rebuilt from
    these features. A member's view, the head that comes out: which images it was trained on (loss threshold, LiRA, RMIA).
    And from canaries a lower bound of epsilon, beside the one that is claimed.

    Attacks show most where images are few. What they do not find may still be found by better ones: only differential
    privacy bounds those.

    [bold]Examples[/bold]

    fedtransfer audit --preset quick

    fedtransfer audit runs/NAME --shadows 128
    """
    if sum(given is not None and given != "" for given in (run, preset, plan)) != 1:
        raise UserError("fedtransfer audit: give a run's folder, --preset quick, or --plan FILE, and one of them only")
    if run is not None and data:
        raise UserError(f"--data {data}: a run is audited on its own images; leave it out, or give --preset or --plan")
    from rich.console import Console

    from fedtransfer.common.support.text import plain
    from fedtransfer.simulations.audit.audits import audit_plan, audit_run
    from fedtransfer.simulations.audit.plan import preset_file
    from fedtransfer.simulations.audit.shown import shown
    from fedtransfer.simulations.display import Display

    display, command = Display(Console(stderr=True)), shlex.join(["fedtransfer", *sys.argv[1:]])
    changed: dict[str, Any] = {key: value for key, value in (("data", data), ("store", store)) if value}
    if run is not None:
        folder = out or run / "audit"
        findings = audit_run(run, folder, shadows, changed, display, command, force=force, pictures=pictures)
    else:
        path = plan or preset_file(preset)
        folder = out or Path("audits") / path.stem
        findings = audit_plan(path, folder, shadows, changed, display, command, force=force, pictures=pictures)
    if json_output:
        print(json.dumps([plain(asdict(finding)) for finding in findings], indent=2, ensure_ascii=False))
    Console(width=None if sys.stdout.isatty() else 120, stderr=json_output).print(shown(findings))
    display.print(f"Report: {folder / 'report.html'}")
