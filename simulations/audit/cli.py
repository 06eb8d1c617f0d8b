"""``fedtransfer audit``: what a federation gives away, measured by attacking it."""

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fedtransfer.common.errors import UserError


def audit(
    run: Annotated[Path | None, typer.Argument(
        help="Folder of a finished run of fedtransfer simulate, to attack as it is.", metavar="RUN",
        show_default=False)] = None,
    preset: Annotated[str, typer.Option(
        help="In place of a run: quick or full, each strategy under each protection.",
        show_default=False)] = "",
    plan: Annotated[Path | None, typer.Option(
        help="In place of a run: a plan of your own, a TOML file like the presets.",
        show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(
        help="Folder for table, curves and report (default: RUN/audit, or audits/PRESET).",
        show_default=False)] = None,
    shadows: Annotated[int, typer.Option(
        help="Shadow federations of membership inference (0: those of the plan, 128 for a run).",
        min=0, max=1024)] = 0,
    data: Annotated[str, typer.Option(
        help="Other data than the plan's; not for a run.", show_default=False)] = "",
    store: Annotated[str, typer.Option(help="Folder of the feature store (default: the user's cache).")] = "",
    pictures: Annotated[bool, typer.Option(
        "--pictures/--no-pictures",
        help="Leave original training images, and what was rebuilt of them, in the folder and its report.",
    )] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier audit in the folder.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:  # fmt: skip
    """Attack a federation as a curious server or a curious member would, and report what they find.

    The server's view, round one: numbers of images by class and features, read off
    what each site sends; images rebuilt from these features. A member's view, the
    last head: which images it was trained on (loss threshold, LiRA, RMIA). And from
    canaries a lower bound of epsilon, to compare with the claimed one.

    Attacks show most if there are few images. Better attacks may find more: only
    differential privacy bounds those.

    [bold]Examples[/bold]

    fedtransfer audit --preset quick

    fedtransfer audit runs/NAME --shadows 128
    """
    if sum(given is not None and given != "" for given in (run, preset, plan)) != 1:
        raise UserError(
            "fedtransfer audit: give a run's folder, --preset quick, or --plan FILE, and one of them only"
        )
    if run is not None and data:
        raise UserError(
            f"--data {data}: a run is audited on its own images; leave it out, or give --preset or --plan"
        )
    from rich.console import Console

    from fedtransfer.common.support.text import plain
    from fedtransfer.simulations.audit.audits import Options, audit_plan, audit_run
    from fedtransfer.simulations.audit.findings import findings_table
    from fedtransfer.simulations.audit.plan import preset_file
    from fedtransfer.simulations.display import Display

    path = plan or (preset_file(preset) if preset else None)
    default = run / "audit" if run else Path("audits") / path.stem if path else Path()
    changed = {key: value for key, value in (("data", data), ("store", store)) if value}
    command, display = shlex.join(["fedtransfer", *sys.argv[1:]]), Display(Console(stderr=True))
    options = Options(out or default, shadows, changed, display, command, force, pictures)
    findings = audit_run(run, options) if run else audit_plan(path or Path(), options)
    if json_output:
        print(json.dumps([plain(asdict(finding)) for finding in findings], indent=2, ensure_ascii=False))
    Console(width=None if sys.stdout.isatty() else 120, stderr=json_output).print(findings_table(findings))
    display.print(f"Report: {options.folder / 'report.html'}")
