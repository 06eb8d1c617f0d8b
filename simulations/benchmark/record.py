"""A benchmark's folder, with ``plan.toml`` and ``benchmark.json``: of what its tables were made, and how."""

import json
from pathlib import Path

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import is_empty, write_whole
from fedtransfer.common.support.text import plain
from fedtransfer.simulations.benchmark.finished import finished, refuse_to_replace
from fedtransfer.simulations.benchmark.plans import Plan
from fedtransfer.simulations.benchmark.runs import Measured


def open_folder(folder: Path, plan: Plan, force: bool = False) -> list[str]:
    """Make a benchmark's folder, or take up the one there is, and write its ``plan.toml``.

    Args:
        folder: of the benchmark.
        plan: what is to be run.
        force: whether finished runs that have other settings now are made again.

    Returns:
        What a person should know of a folder that another plan began.

    Raises:
        UserError: there is something else, or finished runs would be replaced without ``force``.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}: is a file; expected a folder")
    begun = (folder / "plan.toml").is_file() and (folder / "runs").is_dir()
    if folder.is_dir() and not is_empty(folder) and not begun:
        raise UserError(f"--out {folder}: exists and is no benchmark; choose another folder")
    runs, remarks = finished(plan), list[str]()
    if not force:
        refuse_to_replace(runs, folder)
    if begun and (folder / "plan.toml").read_text("utf-8") != plan.text:
        remarks.append(
            f"{folder}: was begun by another plan, which this one replaces; runs that only that one has stay there, "
            "and are not in the tables"
        )
    if runs.changed:
        remarks.append(f"{folder}: {runs}; they are made again")
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    write_whole(folder / "plan.toml", plan.text)
    return remarks


def write_record(folder: Path, command: str, plan: Plan, measured: Measured) -> None:
    """Write ``benchmark.json``.

    Args:
        folder: of the benchmark.
        command: as it was given.
        plan: what was run.
        measured: what came of it.
    """
    accuracy = {(line.setting, line.method): line.estimates["accuracy"].mean for line in measured.lines}
    record = {
        "command": command,
        "data": sorted({cell.config.data for cell in plan.baselines}),
        "backbones": [{"name": facts["backbone"], **facts} for facts in measured.backbones],
        "seconds": measured.seconds,
        "processes": measured.processes,
        "seeds": list(dict.fromkeys(cell.seed for cell in plan.baselines)),
        "tuning": measured.tuning,
        "expected": [
            {**entry.model_dump(), "measured": accuracy.get((entry.setting, entry.method))} for entry in plan.expected
        ],
        "left_out": list(plan.remarks),
        "failures": measured.failures,
    }
    write_whole(folder / "benchmark.json", json.dumps(plain(record), indent=2, ensure_ascii=False) + "\n")
