"""A plan of runs: every setting x method x seed of a TOML file, each a run config of its own.

seeds = [0, 1, 2, 3, 4]

[common]                # settings of every run
rounds = 50

[settings.dirichlet]    # data, and how they are spread; a list stands for each of its values
partition = "dirichlet"
alpha = [0.1, 0.5]      # two settings: dirichlet+alpha=0.1 and dirichlet+alpha=0.5
[settings.dirichlet.methods.fedadam]
adaptivity = 0.001      # of a method in this setting only

[methods.fedavg]        # what is compared; without any, the baselines alone
[methods.fedadam]
strategy = "fedadam"

[tuning]                # settings of methods that validation images choose, in each setting by itself
seed = 100
[tuning.methods.fedavg]
learning-rate = [1.0, 4.0]
[tuning.methods.fedadam]
server-learning-rate = [0.03, 0.1]

[[expected]]            # a number to stand beside the measured one
setting = "dirichlet+alpha=0.1"
method = "fedavg"
accuracy = 0.67
source = "where it stands"

The seed of a run is made of the plan's seed and the setting's name, so runs of different settings or seeds share no
random stream. Methods of one setting and seed share all of them on purpose: partition, splits, first head, cohorts and
batches are the same, so differences between methods are paired.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import Field

from common.config import RunConfig, Value
from common.config_reading import make_config
from common.errors import UserError
from common.seeds import digest
from common.toml_settings import Table, read_settings
from common.words import nearest
from simulations.benchmark import PRESETS
from simulations.benchmark.axes import expanded
from simulations.datasets import NAMES

BASELINES = ("local only", "pooled softmax", "pooled ridge", "pooled NCM", "pooled LDA", "majority class")
_NAME = re.compile(r"[\w.+=-]+")
_PATHS = ("data", "backbone", "weights", "store")


class Tuning(Table):
    """What validation images choose: a seed that is none of the plan's, and method → setting → its values."""

    seed: int
    methods: dict[str, dict[str, list[Value]]] = Field(min_length=1)


class Expected(Table):
    """A number from elsewhere that a cell's mean accuracy is shown beside."""

    setting: str
    method: str
    accuracy: float = Field(gt=0, le=1)
    source: str
    note: str = ""


class PlanFile(Table):
    """What a plan's file holds."""

    seeds: list[int] = Field(min_length=1)
    common: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = Field(min_length=1)
    methods: dict[str, dict[str, Any]] = Field(default_factory=dict)
    tuning: Tuning | None = None
    expected: list[Expected] = Field(default_factory=list)


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
    def place(self) -> tuple[str, int]:
        """What its baselines belong to."""
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
        UserError: there is none of this name.
    """
    if name not in PRESETS:
        raise UserError(f"--preset: got {name!r}; {nearest(name, list(PRESETS))}")
    return Path(str(files("fedtransfer_assets") / "plans" / f"{name}.toml"))


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
    own = {
        name: {key: value for key, value in table.items() if key != "methods"} for name, table in file.settings.items()
    }
    settings = expanded(own, file.common, f"{path}: settings")
    methods = expanded(file.methods, {}, f"{path}: methods")
    for name in (*settings, *methods):
        if not _NAME.fullmatch(name):
            raise UserError(f"{path}: {name!r} names a folder; use letters, digits and . _ + = - only")
    _check_names(file, settings, methods, path)
    grids = _grids(file, path)
    cells: list[Cell] = []
    baselines: list[Cell] = []
    tuning: list[Cell] = []
    remarks: list[str] = []
    for setting, given in settings.items():
        here = file.settings[given.name].get("methods", {})
        shared = {**given.values, **({"store": store} if store else {})}
        wanted = str(shared.get("data", RunConfig().data))
        shared["data"] = data.get(wanted, wanted)
        if shared["data"] not in NAMES and not Path(str(shared["data"])).expanduser().exists():
            remarks.append(f"{setting} is left out: there is no {shared['data']}; give --data {wanted}=PATH")
            continue
        shared |= {key: _absolute(str(shared[key])) for key in _PATHS if key in shared}

        def cell(
            method: str, seed: int, chosen: Mapping[str, Value], folder: str, tried: Mapping[str, Value],
            setting: str = setting, shared: Mapping[str, Value] = shared,
        ) -> Cell:  # fmt: skip
            source = f"{path}: settings.{setting}" + (f" with methods.{method}" if method else "")
            own = {
                "seed": run_seed(seed, setting),
                "baselines": False,
                "out": str(out.absolute() / "runs" / setting / folder),
            }
            return Cell(setting, method, seed, make_config({**shared, **chosen, **tried, **own}, source), tried)

        for seed in file.seeds:
            baselines.append(cell("", seed, {}, f"seed-{seed}", {}))
            cells += [
                cell(name, seed, method.values | here.get(method.name, {}), f"seed-{seed}/{name}", {})
                for name, method in methods.items()
            ]
        for name, method in methods.items():
            for number, tried in enumerate(grids.get(method.name, ())):
                assert file.tuning is not None
                chosen = method.values | here.get(method.name, {})
                tuning.append(cell(name, file.tuning.seed, chosen, f"tuning/{name}/{number}", tried))
    if not baselines:
        raise UserError("\n".join([f"{path}: none of its data are there", *remarks]))
    if private := {str(c.method) for c in tuning if c.config.private}:
        raise UserError(
            f"{path}: tuning.methods.{min(private)}: what validation images choose would not be accounted for under --dp; "
            "state its settings instead"
        )
    return Plan(
        tuple(cells), tuple(baselines), tuple(tuning), tuple(file.expected), tuple(remarks), path.read_text("utf-8")
    )


def run_seed(seed: int, setting: str) -> int:
    """Return the seed of runs of a setting, 0 to 2³¹ - 1: of its own for each seed of the plan and name of a setting."""
    return int.from_bytes(digest(seed, "benchmark", setting)[:4]) >> 1


def same_run(one: RunConfig, other: RunConfig) -> bool:
    """Whether two configs give the same result; where and with how many threads it is made does not count."""
    return _determining(one) == _determining(other)


def _determining(config: RunConfig) -> dict[str, Value]:
    left_out = {"out", "store", "threads", "resume"} | ({"sites"} if config.partition == "natural" else set())
    if config.hides_counts:  # a simulation declares the classes of its data
        left_out |= {"classes", "class-names"}
    return {key: value for key, value in config.to_flat().items() if key not in left_out}


def _grids(file: PlanFile, path: Path) -> dict[str, list[dict[str, Value]]]:
    """Return tuned method → what is tried, as many for each: an equal budget."""
    if not file.tuning:
        return {}
    if file.tuning.seed in file.seeds:
        raise UserError(
            f"{path}: tuning.seed: got {file.tuning.seed}, which is one of seeds; what is chosen on it would be scored on it"
        )
    grids = {}
    for name, axes in file.tuning.methods.items():
        if name not in file.methods:
            raise UserError(f"{path}: tuning.methods: no method {name!r}; {nearest(name, list(file.methods))}")
        tried = expanded({name: dict(axes)}, {}, f"{path}: tuning.methods")
        grids[name] = [{key: each.values[key] for key in axes} for each in tried.values()]
    if len({len(grid) for grid in grids.values()}) > 1:
        sizes = ", ".join(f"{name} {len(grid)}" for name, grid in grids.items())
        raise UserError(
            f"{path}: tuning.methods: got grids of {sizes}; expected as many for each, so that none is tuned harder"
        )
    return grids


def _check_names(file: PlanFile, settings: Mapping[str, Any], methods: Mapping[str, Any], path: Path) -> None:
    """Refuse what is said of settings and methods that are not there."""
    named = [("expected", name, [*settings]) for name in (entry.setting for entry in file.expected)]
    named += [("expected", name, [*methods, *BASELINES]) for name in (entry.method for entry in file.expected)]
    for setting, table in file.settings.items():
        if not isinstance(here := table.get("methods", {}), dict) or not all(
            isinstance(own, dict) for own in here.values()
        ):
            raise UserError(
                f"{path}: settings.{setting}.methods: got {here!r}; expected tables, a method's settings each"
            )
        named += [(f"settings.{setting}.methods", name, [*file.methods]) for name in here]
    for where, name, known in named:
        if name not in known:
            raise UserError(f"{path}: {where}: there is no {name!r}; {nearest(name, known)}")


def _absolute(value: str) -> str:
    """Make a path that is there absolute, as a run folder's config has it; names stay."""
    path = Path(value).expanduser()
    return str(path.resolve()) if value and value not in NAMES and path.exists() else value
