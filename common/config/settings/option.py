"""How a setting is declared: type, default, bounds, panel and help in one place."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

Value = str | int | float | bool


class SettingsGroup(BaseModel):
    """Some of the settings of a run. Keys are spelt with hyphens outside Python (``local-epochs``)."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        allow_inf_nan=False,
        alias_generator=lambda name: outside(name),
    )


def option(default: Value, panel: str, help: str, choices: Sequence[str] = (), **bounds: Any) -> Any:
    """Declare a field: default, panel of ``--help`` ("": no option), help text, choices that it shows, and bounds."""
    return Field(default, description=help, json_schema_extra={"panel": panel, "choices": [*choices]}, **bounds)


def changed(settings: SettingsGroup, name: str) -> bool:
    """Whether a field has another value than its default."""
    return bool(getattr(settings, name) != type(settings).model_fields[name].default)


def outside(name: str) -> str:
    """Return a field's name as people write it."""
    return name.replace("_", "-")
