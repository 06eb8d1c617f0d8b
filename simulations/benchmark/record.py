"""``benchmark.json`` and ``plan.toml``: how a benchmark's tables were made, and of what."""

import json
from pathlib import Path

from common.words import plain
from server.run import write_whole
from simulations.benchmark.plans import Plan
from simulations.benchmark.runs import Measured


def write_record(folder: Path, command: str, plan: Plan, measured: Measured) -> None:
    """Write both files.

    Args:
        folder: of the benchmark.
        command: as it was given.
        plan: what was run.
        measured: what came of it.
    """
    accuracy = {(line.setting, line.method): line.mean["accuracy"] for line in measured.lines}
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
    write_whole(folder / "plan.toml", plan.text)
    write_whole(folder / "benchmark.json", json.dumps(plain(record), indent=2, ensure_ascii=False) + "\n")
