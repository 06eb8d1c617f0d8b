"""A plan of runs: every setting x method x seed of its file, each a run config of its own.

The seed of a run is made of the plan's seed and the setting's name, so runs of different settings
or seeds share no random stream. Methods of one setting and seed share all of them on purpose:
partition, splits, first head, cohorts and batches are the same, so differences between methods are
paired.

Tuning: validation images choose settings from a grid a method, equal in size, on a seed that no
reported run has. Each point of a grid is a run of its own. The one whose delivered head has the
lowest mean cross-entropy on the validation images of all sites is taken for every seed of the
setting; test images have no say.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

from fedtransfer.common.config.config import RunConfig, Value, make_config
from fedtransfer.common.config.toml_settings import read_settings
from fedtransfer.common.errors import UserError
from fedtransfer.common.seeds import digest
from fedtransfer.common.support.text import nearest
from fedtransfer.simulations.benchmark import PRESETS
from fedtransfer.simulations.benchmark.plan_file import Expected, PlanFile, check_names, expanded, grids
from fedtransfer.simulations.data.datasets import NAMES

_NAME = re.compile(r"[\w.+=-]+")
_PATHS = ("data", "backbone", "weights", "store")


@dataclass(frozen=True)
class Cell:
    """One run: a method in a setting with a seed; without a method, the baselines there."""

    setting: str
    method: str
    seed: int  # the plan's; the run's own is made of it and the setting
    config: RunConfig  # ``out`` is its run folder, which baselines share with no run
    tried: Mapping[str, Value] = field(default_factory=dict)  # in a tuning run, the values that it tries

    @property
    def key(self) -> tuple[str, int]:
        """Setting and seed, to which its baselines belong."""
        return self.setting, self.seed

    def __str__(self) -> str:
        tried = "".join(f", {key} {value}" for key, value in self.tried.items())
        return f"{self.setting}, {self.method or 'baselines'}{tried}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """All runs of a plan; those of one setting and seed stand together."""

    text: str  # the plan's file
    expected: Sequence[Expected]  # numbers from elsewhere
    cells: list[Cell] = field(default_factory=list)
    baselines: list[Cell] = field(default_factory=list)  # of each setting and seed
    tuning: list[Cell] = field(default_factory=list)  # the runs that choose settings of tuned methods
    remarks: list[str] = field(default_factory=list)  # which settings are left out, and why


def bundled_plan(name: str) -> Path:
    """Return the file of a plan that comes with the package.

    Raises:
        UserError: there is no plan of this name.
    """
    if name not in PRESETS:
        raise UserError(f"--preset: got {name!r}; {nearest(name, list(PRESETS))}")
    return Path(str(files("fedtransfer.assets") / "plans" / f"{name}.toml"))


def read_plan(path: Path, out: Path, data: Mapping[str, str], store: str = "") -> Plan:
    """Read a plan, whose run folders are below ``out``.

    Args:
        data: where data are that the plan names, by that name.
        store: folder of the feature store, "" for the user's.

    Raises:
        UserError: the file is no plan, a run's settings do not go together, or the data of no
            setting are there.
    """
    file = read_settings(path, PlanFile)
    tables = {name: {**table} for name, table in file.settings.items()}
    changes = {name: table.pop("methods", {}) for name, table in tables.items()}
    settings = expanded(tables, f"{path}: settings", file.common)
    methods = expanded(file.methods, f"{path}: methods")
    for name in (*settings, *methods):
        if not _NAME.fullmatch(name):
            raise UserError(f"{path}: {name!r} names a folder; use letters, digits and . _ + = - only")
    check_names(file, settings, methods, path)
    tried_for = grids(file, path)
    default = RunConfig().data
    data_of = {name: str(point.values.get("data", default)) for name, point in settings.items()}

    def cell(setting: str, method: str, seed: int, folder: str, tried: Mapping[str, Value]) -> Cell:
        source, values = f"{path}: settings.{setting}", dict(settings[setting].values)
        values["data"] = data.get(data_of[setting], data_of[setting])
        values |= {"store": store} if store else {}
        values |= {key: _absolute(str(values[key])) for key in _PATHS if key in values}
        if method:
            source, point = f"{source} with methods.{method}", methods[method]
            values |= point.values | changes[settings[setting].table].get(point.table, {})
        values |= {**tried, "seed": run_seed(seed, setting), "baselines": False, "models": False}
        values["out"] = str(out.absolute() / "runs" / setting / folder)
        return Cell(setting, method, seed, make_config(values, source), tried)

    plan = Plan(path.read_text("utf-8"), file.expected)
    for setting in settings:
        baselines = [cell(setting, "", seed, f"seed-{seed}", {}) for seed in file.seeds]
        pairs = product(file.seeds, methods)
        runs = [cell(setting, name, seed, f"seed-{seed}/{name}", {}) for seed, name in pairs]
        tuning = [
            cell(setting, name, file.tuning.seed, f"tuning/{name}/{number}", values)
            for name, method in methods.items()
            for number, values in enumerate(tried_for.get(method.table, ()))
            if file.tuning
        ]
        if _is_there(place := baselines[0].config.data):
            plan.baselines.extend(baselines)
            plan.cells.extend(runs)
            plan.tuning.extend(tuning)
        else:
            option = f"--data {data_of[setting]}=PATH"
            plan.remarks.append(f"{setting} is left out: there is no {place}; give {option}")
    choices = sorted(set(data_of.values()))
    for name in sorted(data.keys() - set(choices)):
        raise UserError(f"--data {name}: {path} has no data of this name; {nearest(name, choices)}")
    if missing := [f"{name}={place}" for name, place in data.items() if not _is_there(place)]:
        raise UserError("\n".join(f"--data {each}: no such file or folder" for each in missing))
    if not plan.baselines:
        raise UserError("\n".join([f"{path}: none of its data are there", *plan.remarks]))
    if private := {c.method for c in plan.tuning if c.config.private}:
        raise UserError(
            f"{path}: tuning.methods.{min(private)}: what validation images choose would not be accounted "
            "for under --dp; state its settings instead"
        )
    trained = {c.method for c in plan.cells if not (c.config.closed_form or c.config.private)}
    if tried_for and (untuned := sorted({methods[name].table for name in trained} - tried_for.keys())):
        raise UserError(
            f"{path}: tuning.methods: got none for {', '.join(untuned)}; expected a grid for each method "
            "that trains, or no tuning at all: what is not tuned would be compared with what is"
        )
    return plan


def run_seed(seed: int, setting: str) -> int:
    """Return a seed of runs, 0 to 2³¹ - 1: one for each seed of the plan and name of a setting."""
    return int.from_bytes(digest(seed, "benchmark", setting)[:4]) >> 1


def _is_there(data: str) -> bool:
    return data in NAMES or Path(data).expanduser().exists()


def _absolute(value: str) -> str:
    """Make a path that is there absolute, as a run folder's config has it; names stay."""
    path = Path(value).expanduser()
    return str(path.resolve()) if value and value not in NAMES and path.exists() else value


def choose(tuning: Sequence[Cell], losses: Mapping[str, float]) -> list[dict[str, Any]]:
    """Choose for each setting and tuned method, as ``benchmark.json`` has it.

    ``losses`` has the mean cross-entropy on validation images by run. A run that failed is not
    there, and never chosen: a choice of which all failed is None.
    """
    choices = []
    for setting, method in dict.fromkeys((cell.setting, cell.method) for cell in tuning):
        grid = [cell for cell in tuning if (cell.setting, cell.method) == (setting, method)]
        numbers = [losses.get(str(cell), math.nan) for cell in grid]
        finite = [(number, i) for i, number in enumerate(numbers) if math.isfinite(number)]
        tried = [dict(cell.tried) for cell in grid]
        choices.append({
            "setting": setting, "method": method, "seed": grid[0].seed, "grid": tried,
            "validation_loss": numbers, "chosen": tried[min(finite)[1]] if finite else None,
        })  # fmt: skip
    return choices


def with_choices(cells: Sequence[Cell], choices: Sequence[Mapping[str, Any]]) -> list[Cell]:
    """Give cells what was chosen for them; leave out those whose choice failed in all runs."""
    chosen = {(choice["setting"], choice["method"]): choice["chosen"] for choice in choices}
    result = []
    for cell in cells:
        values = chosen.get((cell.setting, cell.method), {})
        if values:
            config = make_config({**cell.config.to_flat(), **values}, f"{cell} as tuned")
            result.append(replace(cell, config=config))
        elif values is not None:
            result.append(cell)
    return result
