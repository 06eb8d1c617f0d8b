"""Typed settings of a folder from its TOML file, ``coordinator.toml`` or ``site.toml``."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.text import nearest


class Table(BaseModel):
    """A table of settings; its keys have hyphens in the file, and unknown keys are an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True,
        alias_generator=lambda name: name.replace("_", "-"),
    )  # fmt: skip


_T = TypeVar("_T", bound=Table)


def read_settings(path: Path, kind: type[_T]) -> _T:
    """Read a file of settings.

    Raises:
        UserError: it cannot be read, is not TOML, or has invalid settings; the text names each.
    """
    try:
        return kind.model_validate(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        whose = "; use it as the user whose file it is" if isinstance(error, PermissionError) else ""
        raise UserError(f"{path}: {error.strerror}{whose}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
    except ValidationError as error:
        raise UserError(
            "\n".join(f"{path}: {_explain(problem, kind)}" for problem in error.errors())
        ) from None


def _explain(problem: Any, kind: type[Table]) -> str:
    *tables, key = map(str, problem["loc"])
    for name in tables:
        kind = _within(kind, name)
    if problem["type"] == "extra_forbidden":
        keys = [str(field.alias) for field in kind.model_fields.values()]
        return f"{''.join(f'{name}: ' for name in tables)}unknown key {key!r}; {nearest(key, keys)}"
    where, value, reason = ".".join([*tables, key]), problem["input"], problem["msg"]
    if problem["type"] == "missing":
        examples = next((field.examples for field in kind.model_fields.values() if field.alias == key), None)
        return f"{where} is missing" + (f"; for example {key} = {examples[0]}" if examples else "")
    if problem["type"] == "value_error":
        reason = str(problem["ctx"]["error"])
    return f"{where}: got {value!r}; {reason[0].lower()}{reason[1:]}"


def _within(kind: type[Table], name: str) -> type[Table]:
    """Return the type of the table under a key, alone or optional; a list's index keeps it."""
    field = next((field for field in kind.model_fields.values() if field.alias == name), None)
    choices = () if field is None else (field.annotation, *get_args(field.annotation))
    return next(
        (choice for choice in choices if isinstance(choice, type) and issubclass(choice, Table)), kind
    )
