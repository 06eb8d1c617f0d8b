"""Typer options made from the run config, so that command line, TOML and Flower's run config cannot drift apart."""

import inspect
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, get_origin

import typer

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError


def with_config_options(without: Collection[str] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command one option for each config field; those set by the user arrive as the dict ``settings``.

    The command's other parameters keep their place before them, and take the place of fields of the same name.

    Args:
        without: fields that the command has no option for.
    """
    return lambda command: _with_options(command, without)


def _with_options(command: Callable[..., Any], without: Collection[str]) -> Callable[..., Any]:
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "settings"]
    named = {p.name for p in own}
    options = [_option(name) for name in RunConfig.model_fields if name not in {*named, *without} and _panel(name)]

    def wrapper(**arguments: Any) -> Any:
        given = {p.name: arguments.pop(p.name) for p in options}
        settings = {name.replace("_", "-"): value for name, value in given.items() if value is not None}
        return command(**arguments, settings=settings)

    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    wrapper.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in [*own, *options]}
    return wrapper


def _option(name: str) -> inspect.Parameter:
    field = RunConfig.model_fields[name]
    # Choices are read as text: the config names the nearest valid one, which click would not.
    choices = list(field.annotation.__args__) if get_origin(field.annotation) is not None else _extra(name, "choices")  # type: ignore[union-attr]
    kind: Any = str if choices else field.annotation
    flag = f"--{name.replace('_', '-')}"
    shown = "" if field.default in ("", False) else f"[dim](default: {field.default})[/dim]"
    option = typer.Option(
        f"{flag}/--no-{flag[2:]}" if kind is bool else flag,
        help=f"{field.description} {shown}".strip(),
        rich_help_panel=_panel(name),
        metavar="|".join(choices) if choices else None,
        show_default=False,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def refuse_missing(paths: Sequence[Path]) -> None:
    """Check that all of these files and folders exist.

    Raises:
        UserError: names those that do not.
    """
    if missing := [str(path) for path in paths if not path.exists()]:
        raise UserError(f"{', '.join(missing)}: no such file or folder")


def _panel(name: str) -> str:
    return str(_extra(name, "panel") or "")


def _extra(name: str, key: str) -> Any:
    """Return what ``option`` was told of a field."""
    extra = RunConfig.model_fields[name].json_schema_extra
    return extra[key] if isinstance(extra, dict) else None
