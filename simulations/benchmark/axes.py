"""Lists in a plan: a setting that is a list stands for each of its values, and its name tells which."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from fedtransfer.common.config.config import Value
from fedtransfer.common.errors import UserError


@dataclass(frozen=True)
class Point:
    """One of those that a table stands for: the table's name, and its settings, none of which is a list."""

    name: str
    values: dict[str, Value]


def expanded(tables: Mapping[str, Mapping[str, Any]], common: Mapping[str, Any], source: str) -> dict[str, Point]:
    """Return name → point, for all combinations of the values in lists; ``+KEY=VALUE`` is added to the name for each.

    Args:
        tables: name → settings, each a value or a list of values.
        common: settings of all tables, which a table's own replace.
        source: where they stand, for errors.

    Raises:
        UserError: a list is empty, a value is neither text, number nor boolean, or two points have one name.
    """
    points: dict[str, Point] = {}
    for name, values_of in tables.items():
        table = {**common, **values_of}
        axes = {key: values for key, values in table.items() if isinstance(values, list)}
        for key, value in table.items():
            if not axes.get(key, [value]) or not all(isinstance(one, Value) for one in axes.get(key, [value])):
                raise UserError(f"{source}.{name}: {key}: got {value!r}; expected a value, or a list of values")
        for chosen in product(*axes.values()):
            values = dict(zip(axes, chosen, strict=True))
            full = name + "".join(f"+{key}={_text(value)}" for key, value in values.items())
            if full in points:
                raise UserError(f"{source}: {full} is there twice; give each value once")
            points[full] = Point(name, {**table, **values})
    return points


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)
