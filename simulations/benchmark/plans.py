"""A plan of runs: every setting x method x seed of a TOML file, each a run config of its own.

seeds = [0, 1, 2]

[common]                # settings of every run
rounds = 50

[settings.iid]          # data, and how they are spread
data = "cifar10"
partition = "iid"

[methods.fedadam]       # what is compared
strategy = "fedadam"
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from common.config import RunConfig, Value
from common.config_reading import make_config
from common.errors import UserError
from common.toml_settings import Table, read_settings
from simulations.datasets import NAMES

_NAME = re.compile(r"[\w.+=-]+")
_PATHS = ("data", "backbone", "weights", "store")


class PlanFile(Table):
    """What a plan's file holds."""

    seeds: list[int] = Field(min_length=1)
    common: dict[str, Value] = Field(default_factory=dict)
    settings: dict[str, dict[str, Value]] = Field(min_length=1)
    methods: dict[str, dict[str, Value]] = Field(min_length=1)


@dataclass(frozen=True)
class Cell:
    """One run: a method in a setting with a seed; without a method, the baselines there.

    Attributes:
        config: its settings; ``out`` is its run folder, which baselines share with no run.
    """

    setting: str
    method: str
    seed: int
    config: RunConfig

    @property
    def place(self) -> tuple[str, int]:
        """What its baselines belong to."""
        return self.setting, self.seed

    def __str__(self) -> str:
        return f"{self.setting}, {self.method or 'baselines'}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """All runs of a plan, and the baselines of each setting and seed; ``remarks`` says which settings are left out."""

    cells: tuple[Cell, ...]
    baselines: tuple[Cell, ...]
    remarks: tuple[str, ...]


def read_plan(path: Path, out: Path, data: Mapping[str, str], store: str = "") -> Plan:
    """Read a plan. The runs of one setting and seed stand together.

    Args:
        path: the TOML file.
        out: below it stand the run folders.
        data: where data are that the plan names, by that name.
        store: folder of the feature store, "" for the user's.

    Raises:
        UserError: the file is no plan, a run's settings do not go together, or the data of no setting are there.
    """
    plan = read_settings(path, PlanFile)
    for name in (*plan.settings, *plan.methods):
        if not _NAME.fullmatch(name):
            raise UserError(f"{path}: {name!r} names a folder; use letters, digits and . _ + = - only")
    cells: list[Cell] = []
    baselines: list[Cell] = []
    remarks: list[str] = []
    for setting, own in plan.settings.items():
        settings = {**plan.common, **own, **({"store": store} if store else {})}
        wanted = str(settings.get("data", RunConfig().data))
        settings["data"] = data.get(wanted, wanted)
        if settings["data"] not in NAMES and not Path(str(settings["data"])).expanduser().exists():
            remarks.append(f"{setting} is left out: there is no {settings['data']}; give --data {wanted}=PATH")
            continue
        settings |= {key: _absolute(str(settings[key])) for key in _PATHS if key in settings}
        for seed in plan.seeds:
            folder = out.absolute() / "runs" / setting / f"seed-{seed}"
            for method, chosen in {"": {}, **plan.methods}.items():
                source = f"{path}: settings.{setting}" + (f" with methods.{method}" if method else "")
                last = {"seed": seed, "baselines": False, "out": str(folder / method) if method else str(folder)}
                cell = Cell(setting, method, seed, make_config({**settings, **chosen, **last}, source))
                (cells if method else baselines).append(cell)
    if not cells:
        raise UserError("\n".join([f"{path}: none of its data are there", *remarks]))
    return Plan(tuple(cells), tuple(baselines), tuple(remarks))


def same_run(one: RunConfig, other: RunConfig) -> bool:
    """Whether two configs give the same result; where and with how many threads it is made does not count."""
    return _determining(one) == _determining(other)


def _determining(config: RunConfig) -> dict[str, Value]:
    left_out = {"out", "store", "threads", "resume"} | ({"sites"} if config.partition == "natural" else set())
    if config.hides_counts:  # a simulation declares the classes of its data
        left_out |= {"classes", "class-names"}
    return {key: value for key, value in config.to_flat().items() if key not in left_out}


def _absolute(value: str) -> str:
    """Make a path that is there absolute, as a run folder's config has it; names stay."""
    path = Path(value).expanduser()
    return str(path.resolve()) if value and value not in NAMES and path.exists() else value
