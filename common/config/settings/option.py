"""How a setting is declared: type, default and bounds, and below them its help as a docstring."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

Value = str | int | float | bool


class SettingsGroup(BaseModel):
    """Some of the settings of a run. Outside Python, keys have hyphens (``local-epochs``)."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False,
        use_attribute_docstrings=True, alias_generator=lambda name: outside(name),
    )  # fmt: skip
    panel: ClassVar[str] = ""  # of --help

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        for name in cls.__annotations__:
            cls.model_fields[name].json_schema_extra.setdefault("panel", cls.panel)  # type: ignore[union-attr]


def option(default: Value, choices: Sequence[str] = (), hidden: bool = False, **more: Any) -> Any:
    """Declare a field: default, choices that ``--help`` shows, and what pydantic's ``Field`` takes.

    A hidden one has no option.
    """
    extra: dict[str, Any] = {"choices": [*choices]} | ({"panel": ""} if hidden else {})
    return Field(default, json_schema_extra=extra, **more)


def changed(settings: SettingsGroup, name: str) -> bool:
    """Whether a field has another value than its default."""
    return bool(getattr(settings, name) != type(settings).model_fields[name].default)


def changed_of(settings: SettingsGroup, names: Iterable[str]) -> str:
    """Return the outside names of the fields, of some, that have not their default; "" for none."""
    return ", ".join(outside(name) for name in names if changed(settings, name))


def outside(name: str) -> str:
    """Return a field's name as people write it."""
    return name.replace("_", "-")
