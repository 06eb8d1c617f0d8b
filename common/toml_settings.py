"""Settings of a folder, read from TOML into a typed object: ``coordinator.toml`` and ``site.toml``."""

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import UserError


class Table(BaseModel):
    """A table of settings: keys are spelt with hyphens in the file, and unknown ones are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, alias_generator=lambda name: name.replace("_", "-")
    )


_T = TypeVar("_T", bound=Table)


def read_settings(path: Path, kind: type[_T]) -> _T:
    """Read a file of settings that exists.

    Raises:
        UserError: it is no TOML, or names each setting that is not right.
    """
    try:
        return kind.model_validate(tomllib.loads(path.read_text("utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
    except ValidationError as error:
        problems = [
            f"{path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}, got {problem['input']!r}"
            for problem in error.errors()
        ]
        raise UserError("\n".join(problems)) from None
