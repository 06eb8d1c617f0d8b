"""The file of a plan: its tables, and what is refused in it. docs/benchmarks.md has an example."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from fedtransfer.common.config.config import Value
from fedtransfer.common.config.toml_settings import Table
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.text import nearest
from fedtransfer.simulations.benchmark.axes import expanded
from fedtransfer.simulations.scoring.estimate import BASELINES


class Tuning(Table):
    """What validation images choose: a seed that the plan does not have, and method → setting → its values."""

    seed: int
    methods: dict[str, dict[str, list[Value]]] = Field(min_length=1)


class Expected(Table):
    """A published number to compare with a cell's mean accuracy."""

    setting: str
    method: str
    accuracy: float = Field(gt=0, le=1)
    source: str
    note: str = ""


class PlanFile(Table):
    """What a plan's file holds."""

    seeds: list[int] = Field(min_length=1, examples=["[0, 1, 2]"])
    common: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = Field(min_length=1)
    methods: dict[str, dict[str, Any]] = Field(default_factory=dict)
    tuning: Tuning | None = None
    expected: list[Expected] = Field(default_factory=list)

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: list[int]) -> list[int]:
        if twice := [seed for seed in dict.fromkeys(seeds) if seeds.count(seed) > 1]:
            raise ValueError(f"{twice[0]} is there {seeds.count(twice[0])} times; give each seed once")
        return seeds


def grids(file: PlanFile, path: Path) -> dict[str, list[dict[str, Value]]]:
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


def check_names(file: PlanFile, settings: Collection[str], methods: Collection[str], path: Path) -> None:
    """Refuse what is said of settings and methods that are not there."""
    named = [("expected", name, [*settings]) for name in (entry.setting for entry in file.expected)]
    named += [("expected", name, [*methods, *BASELINES]) for name in (entry.method for entry in file.expected)]
    for setting, table in file.settings.items():
        if not isinstance(methods_of := table.get("methods", {}), dict) or not all(
            isinstance(options, dict) for options in methods_of.values()
        ):
            raise UserError(
                f"{path}: settings.{setting}.methods: got {methods_of!r}; expected tables, a method's settings each"
            )
        named += [(f"settings.{setting}.methods", name, [*file.methods]) for name in methods_of]
    for source, name, choices in named:
        if name not in choices:
            raise UserError(f"{path}: {source}: there is no {name!r}; {nearest(name, choices)}")
