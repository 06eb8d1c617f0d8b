"""The file of a plan, its lists and what is refused in it; docs/benchmarks.md has an example."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from fedtransfer.common.config.config import Value
from fedtransfer.common.config.toml_settings import Table
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.text import nearest
from fedtransfer.simulations.scoring.estimate import BASELINES


class Tuning(Table):
    """What validation images choose: a seed not of the plan, and method → setting → its values."""

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


@dataclass(frozen=True)
class Point:
    """One of those that a table stands for: the table's name, and its settings, none a list."""

    table: str
    values: dict[str, Value]


def expanded(
    tables: Mapping[str, Mapping[str, Any]], source: str, common: Mapping[str, Any] | None = None
) -> dict[str, Point]:
    """Return name → point for each combination of listed values, which add ``+KEY=VALUE`` to names.

    A table's settings replace the common ones. ``source`` is where they stand, for errors.

    Raises:
        UserError: a list is empty, a value no text, number or boolean, or two points have one name.
    """
    points: dict[str, Point] = {}
    for name, values_of in tables.items():
        table = {**(common or {}), **values_of}
        axes = {key: values for key, values in table.items() if isinstance(values, list)}
        for key, value in table.items():
            values = axes.get(key, [value])
            if not values or not all(isinstance(one, Value) for one in values):
                where = f"{source}.{name}: {key}"
                raise UserError(f"{where}: got {value!r}; expected a value, or a list of values")
        for chosen in product(*axes.values()):
            point = dict(zip(axes, chosen, strict=True))
            full = name + "".join(f"+{key}={_text(value)}" for key, value in point.items())
            if full in points:
                raise UserError(f"{source}: {full} is there twice; give each value once")
            points[full] = Point(name, {**table, **point})
    return points


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def grids(file: PlanFile, path: Path) -> dict[str, list[dict[str, Value]]]:
    """Return tuned method → what is tried, as many for each: an equal budget."""
    if not file.tuning:
        return {}
    if (seed := file.tuning.seed) in file.seeds:
        why = "which is one of seeds; what is chosen on it would be scored on it"
        raise UserError(f"{path}: tuning.seed: got {seed}, {why}")
    source, grids = f"{path}: tuning.methods", {}
    for name, axes in file.tuning.methods.items():
        if name not in file.methods:
            raise UserError(f"{source}: no method {name!r}; {nearest(name, list(file.methods))}")
        grids[name] = [point.values for point in expanded({name: axes}, source).values()]
    if len({len(grid) for grid in grids.values()}) > 1:
        sizes = ", ".join(f"{name} {len(grid)}" for name, grid in grids.items())
        expected = "expected as many for each, so that none is tuned harder"
        raise UserError(f"{source}: got grids of {sizes}; {expected}")
    return grids


def check_names(file: PlanFile, settings: Collection[str], methods: Collection[str], path: Path) -> None:
    """Refuse what is said of settings and methods that are not there."""
    named = [("expected", entry.setting, [*settings]) for entry in file.expected]
    named += [("expected", entry.method, [*methods, *BASELINES]) for entry in file.expected]
    for setting, table in file.settings.items():
        source, changed = f"settings.{setting}.methods", table.get("methods", {})
        if not isinstance(changed, dict) or not all(isinstance(each, dict) for each in changed.values()):
            raise UserError(f"{path}: {source}: got {changed!r}; expected tables, a method's settings each")
        named += [(source, name, [*file.methods]) for name in changed]
    for source, name, choices in named:
        if name not in choices:
            raise UserError(f"{path}: {source}: there is no {name!r}; {nearest(name, choices)}")
