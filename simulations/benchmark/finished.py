"""Which runs and baselines of a plan are finished in its folder, and which of them with other settings."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from fedtransfer.common.config.config import RunConfig, make_config
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.text import counted
from fedtransfer.server.run_folder.folder import settings_of
from fedtransfer.simulations.benchmark.plans import Cell, Plan, differing


@dataclass(frozen=True)
class Finished:
    """Finished runs and baselines.

    Attributes:
        done: those that are not repeated.
        changed: those whose settings in the plan are others now.
        example: one of these, and what differs; "" if there is none.
    """

    done: tuple[Cell, ...]
    changed: tuple[Cell, ...]
    example: str = ""

    def __str__(self) -> str:
        baselines = sum(not cell.method for cell in self.changed)
        runs = len(self.changed) - baselines
        parts = [counted(runs, "finished run")] * bool(runs)
        parts += [f"{counted(baselines, 'set')} of baselines"] * bool(baselines)
        have = "has" if len(self.changed) == 1 else "have"
        return f"{' and '.join(parts)} there {have} other settings than the plan now: {self.example}"


def finished(plan: Plan) -> Finished:
    """Compare all runs and baselines of a plan with its folder; a setting that tuning is to choose may have any value."""
    tuned = {(cell.setting, cell.method): frozenset(cell.tried) for cell in plan.tuning}
    return compare([*plan.cells, *plan.tuning, *plan.baselines], tuned)


def compare(cells: Iterable[Cell], tuned: Mapping[tuple[str, str], frozenset[str]] = MappingProxyType({})) -> Finished:
    """Compare runs with the folder; ``tuned``: setting and method → settings that may have any value."""
    done, changed, examples = list[Cell](), list[Cell](), list[str]()
    for cell in cells:
        if not (config := _settings(cell)):
            continue
        free = () if cell.tried else tuned.get((cell.setting, cell.method), ())
        differences = {key: pair for key, pair in differing(config, cell.config).items() if key not in free}
        if differences:
            changed.append(cell)
            texts = (f"{key} was {was!r}, is {now!r}" for key, (was, now) in differences.items())
            examples.append(f"{cell}: {'; '.join(texts)}")
        else:
            done.append(cell)
    return Finished(tuple(done), tuple(changed), examples[0] if examples else "")


def refuse_to_replace(runs: Finished, out: Path) -> None:
    """Refuse to repeat finished runs that have other settings now, because their results would be lost.

    Raises:
        UserError: there are such.
    """
    if runs.changed:
        raise UserError(
            f"--out {out}: {runs}. None of them was replaced: choose another --out, or give --force to make them again"
        )


def _settings(cell: Cell) -> RunConfig | None:
    """Return the settings of a finished run or of baselines; None if they are missing or unfinished."""
    folder = Path(cell.config.out)
    if cell.method:
        return settings_of(folder) if (folder / "summary.json").is_file() else None
    file = folder / "baselines.json"
    return make_config(json.loads(file.read_text("utf-8"))["settings"], str(file)) if file.is_file() else None
