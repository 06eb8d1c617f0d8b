"""What a benchmark's folder holds of its plan already: which runs and baselines are done, and which with other settings."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.config.reading import make_config
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.text import counted
from fedtransfer.server.run_folder.folder import settings_of
from fedtransfer.simulations.benchmark.plans import Cell, Plan, differing


@dataclass(frozen=True)
class Standing:
    """What is finished.

    Attributes:
        done: runs and baselines that are not made again.
        changed: those that have other settings than the plan now, and would be made again.
        example: one of these, and what differs; "" where there is none.
    """

    done: tuple[Cell, ...]
    changed: tuple[Cell, ...]
    example: str = ""

    def __str__(self) -> str:
        baselines = sum(not cell.method for cell in self.changed)
        runs = len(self.changed) - baselines
        what = [counted(runs, "finished run")] * bool(runs) + [f"{counted(baselines, 'set')} of baselines"] * bool(
            baselines
        )
        have = "has" if len(self.changed) == 1 else "have"
        return f"{' and '.join(what)} there {have} other settings than the plan now: {self.example}"


def standing(plan: Plan) -> Standing:
    """Look at all runs and baselines of a plan; a setting that tuning is still to choose may have any value."""
    chosen = {(cell.setting, cell.method): frozenset(cell.tried) for cell in plan.tuning}
    runs = ((cell, chosen.get((cell.setting, cell.method), frozenset[str]())) for cell in plan.cells)
    return _compared([*runs, *((cell, frozenset[str]()) for cell in (*plan.tuning, *plan.baselines))])


def refuse_to_replace(found: Standing, out: Path) -> None:
    """Refuse to make finished runs again that have other settings now: what they found would be lost.

    Raises:
        UserError: there are such.
    """
    if found.changed:
        raise UserError(
            f"--out {out}: {found}. Nothing of them was replaced: choose another --out, or give --force to make them again"
        )


def tuned(cells: Iterable[Cell]) -> Standing:
    """Look at runs whose settings are all chosen."""
    return _compared((cell, frozenset[str]()) for cell in cells)


def _compared(cells: Iterable[tuple[Cell, frozenset[str]]]) -> Standing:
    done, changed, examples = list[Cell](), list[Cell](), list[str]()
    for cell, open_ in cells:
        if not (there := _finished(cell)):
            continue
        differs = {key: pair for key, pair in differing(there, cell.config).items() if key not in open_}
        if differs:
            changed.append(cell)
            told = (f"{key} was {was!r}, is {now!r}" for key, (was, now) in differs.items())
            examples.append(f"{cell}: {'; '.join(told)}")
        else:
            done.append(cell)
    return Standing(tuple(done), tuple(changed), examples[0] if examples else "")


def _finished(cell: Cell) -> RunConfig | None:
    """Return the settings with which a run or baselines were made; None where they are not there, or not to the end."""
    folder = Path(cell.config.out)
    if cell.method:
        return settings_of(folder) if (folder / "summary.json").is_file() else None
    file = folder / "baselines.json"
    return make_config(json.loads(file.read_text("utf-8"))["settings"], str(file)) if file.is_file() else None
