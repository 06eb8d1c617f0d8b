"""A plan of runs: every setting x method x seed of its file, each a run config of its own.

The seed of a run is made of the plan's seed and the setting's name, so runs of different settings or seeds share no
random stream. Methods of one setting and seed share all of them on purpose: partition, splits, first head, cohorts and
batches are the same, so differences between methods are paired.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from fedtransfer.common.config.config import RunConfig, Value, make_config
from fedtransfer.common.config.toml_settings import read_settings
from fedtransfer.common.errors import UserError
from fedtransfer.common.seeds import digest
from fedtransfer.common.support.text import nearest
from fedtransfer.simulations.benchmark import PRESETS
from fedtransfer.simulations.benchmark.axes import expanded
from fedtransfer.simulations.benchmark.plan_file import Expected, PlanFile, check_names, grids
from fedtransfer.simulations.data.datasets import NAMES

_NAME = re.compile(r"[\w.+=-]+")
_PATHS = ("data", "backbone", "weights", "store")


@dataclass(frozen=True)
class Cell:
    """One run: a method in a setting with a seed; without a method, the baselines there.

    Attributes:
        seed: the plan's; the run's own is made of it and the setting.
        config: its settings; ``out`` is its run folder, which baselines share with no run.
        tried: in a tuning run, the values that it tries.
    """

    setting: str
    method: str
    seed: int
    config: RunConfig
    tried: Mapping[str, Value] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int]:
        """Setting and seed, to which its baselines belong."""
        return self.setting, self.seed

    def __str__(self) -> str:
        tried = "".join(f", {key} {value}" for key, value in self.tried.items())
        return f"{self.setting}, {self.method or 'baselines'}{tried}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """All runs of a plan.

    Attributes:
        cells: the runs; those of one setting and seed stand together.
        baselines: of each setting and seed.
        tuning: the runs that choose settings of tuned methods.
        expected: numbers from elsewhere.
        remarks: which settings are left out, and why.
        text: the plan's file.
    """

    cells: tuple[Cell, ...]
    baselines: tuple[Cell, ...]
    tuning: tuple[Cell, ...] = ()
    expected: tuple[Expected, ...] = ()
    remarks: tuple[str, ...] = ()
    text: str = ""


def bundled_plan(name: str) -> Path:
    """Return the file of a plan that comes with the package.

    Raises:
        UserError: there is no plan of this name.
    """
    if name not in PRESETS:
        raise UserError(f"--preset: got {name!r}; {nearest(name, list(PRESETS))}")
    return Path(str(files("fedtransfer.assets") / "plans" / f"{name}.toml"))


def read_plan(path: Path, out: Path, data: Mapping[str, str], store: str = "") -> Plan:
    """Read a plan.

    Args:
        path: the TOML file.
        out: below it stand the run folders.
        data: where data are that the plan names, by that name.
        store: folder of the feature store, "" for the user's.

    Raises:
        UserError: the file is no plan, a run's settings do not go together, or the data of no setting are there.
    """
    file = read_settings(path, PlanFile)
    fixed = {
        name: {key: value for key, value in table.items() if key != "methods"} for name, table in file.settings.items()
    }
    settings = expanded(fixed, file.common, f"{path}: settings")
    methods = expanded(file.methods, {}, f"{path}: methods")
    for name in (*settings, *methods):
        if not _NAME.fullmatch(name):
            raise UserError(f"{path}: {name!r} names a folder; use letters, digits and . _ + = - only")
    check_names(file, settings, methods, path)
    tried_for = grids(file, path)
    cells: list[Cell] = []
    baselines: list[Cell] = []
    tuning: list[Cell] = []
    remarks: list[str] = []
    data_names: set[str] = set()
    for setting, point in settings.items():
        changes = file.settings[point.name].get("methods", {})
        shared = {**point.values, **({"store": store} if store else {})}
        name_of_data = str(shared.get("data", RunConfig().data))
        data_names.add(name_of_data)
        shared["data"] = data.get(name_of_data, name_of_data)
        shared |= {key: _absolute(str(shared[key])) for key in _PATHS if key in shared}

        def cell(
            method: str, seed: int, chosen: Mapping[str, Value], folder: str, tried: Mapping[str, Value],
            setting: str = setting, shared: Mapping[str, Value] = shared,
        ) -> Cell:  # fmt: skip
            source = f"{path}: settings.{setting}" + (f" with methods.{method}" if method else "")
            fixed = {
                "seed": run_seed(seed, setting),
                "baselines": False,
                "models": False,
                "out": str(out.absolute() / "runs" / setting / folder),
            }
            return Cell(setting, method, seed, make_config({**shared, **chosen, **tried, **fixed}, source), tried)

        chosen = {name: method.values | changes.get(method.name, {}) for name, method in methods.items()}
        scored = [cell("", seed, {}, f"seed-{seed}", {}) for seed in file.seeds]
        runs = [cell(name, seed, chosen[name], f"seed-{seed}/{name}", {}) for seed in file.seeds for name in methods]
        tried = [
            cell(name, file.tuning.seed, chosen[name], f"tuning/{name}/{number}", values)
            for name, method in methods.items()
            for number, values in enumerate(tried_for.get(method.name, ()))
            if file.tuning
        ]
        if _is_there(str(shared["data"])):
            baselines += scored
            cells += runs
            tuning += tried
        else:
            remarks.append(f"{setting} is left out: there is no {shared['data']}; give --data {name_of_data}=PATH")
    if unknown := sorted(data.keys() - data_names):
        raise UserError(
            f"--data {unknown[0]}: {path} has no data of this name; {nearest(unknown[0], sorted(data_names))}"
        )
    if missing := [
        f"--data {name}={path_of}: no such file or folder" for name, path_of in data.items() if not _is_there(path_of)
    ]:
        raise UserError("\n".join(missing))
    if not baselines:
        raise UserError("\n".join([f"{path}: none of its data are there", *remarks]))
    if private := {str(c.method) for c in tuning if c.config.private}:
        raise UserError(
            f"{path}: tuning.methods.{min(private)}: what validation images choose would not be accounted for under --dp; "
            "state its settings instead"
        )
    trained = {methods[c.method].name for c in cells if not c.config.closed_form and not c.config.private}
    if tried_for and (untuned := sorted(trained - tried_for.keys())):
        raise UserError(
            f"{path}: tuning.methods: got none for {', '.join(untuned)}; expected a grid for each method that trains, or no "
            "tuning at all: what is not tuned would be compared with what is"
        )
    return Plan(
        tuple(cells), tuple(baselines), tuple(tuning), tuple(file.expected), tuple(remarks), path.read_text("utf-8")
    )


def run_seed(seed: int, setting: str) -> int:
    """Return the seed of runs of a setting, 0 to 2³¹ - 1: of its own for each seed of the plan and name of a setting."""
    return int.from_bytes(digest(seed, "benchmark", setting)[:4]) >> 1


def differing(one: RunConfig, other: RunConfig) -> dict[str, tuple[Value | None, Value | None]]:
    """Return setting → its values in both, of those that decide the result; None if a config's others make it irrelevant.

    Paths and the number of threads decide nothing.
    """
    first, second = _determining(one), _determining(other)
    pairs = {key: (first.get(key), second.get(key)) for key in (*first, *second)}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _determining(config: RunConfig) -> dict[str, Value]:
    left_out = {"out", "store", "threads", "resume", "models"} | ({"sites"} if config.partition == "natural" else set())
    if config.hides_counts:  # a simulation declares the classes of its data
        left_out |= {"classes", "class-names"}
    return {key: value for key, value in config.to_flat().items() if key not in left_out}


def _is_there(data: str) -> bool:
    return data in NAMES or Path(data).expanduser().exists()


def _absolute(value: str) -> str:
    """Make a path that is there absolute, as a run folder's config has it; names stay."""
    path = Path(value).expanduser()
    return str(path.resolve()) if value and value not in NAMES and path.exists() else value
