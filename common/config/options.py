"""Typer options from the run config, so that command line, TOML and Flower's run config agree."""

import inspect
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, get_origin

import typer

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError


def with_config_options(without: Collection[str] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command an option for each config field but ``without``; its ``settings`` are those given.

    The command's own parameters come first, and replace fields of the same name.
    """
    return lambda command: _with_options(command, without)


def _with_options(command: Callable[..., Any], without: Collection[str]) -> Callable[..., Any]:
    parameters = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "settings"]
    names = {p.name for p in parameters}
    options = [_option(name) for name in RunConfig.model_fields if name not in {*names, *without} and _panel(name)]

    def wrapper(**arguments: Any) -> Any:
        values = {p.name: arguments.pop(p.name) for p in options}
        settings = {name.replace("_", "-"): value for name, value in values.items() if value is not None}
        return command(**arguments, settings=settings)

    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    wrapper.__signature__ = inspect.Signature([*parameters, *options])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in [*parameters, *options]}
    return wrapper


def _option(name: str) -> inspect.Parameter:
    field = RunConfig.model_fields[name]
    # Choices are text for click, since the config's own error names the nearest valid choice.
    literal = get_origin(field.annotation) is not None
    choices = list(field.annotation.__args__) if literal else _extra(name, "choices")  # type: ignore[union-attr]
    kind: Any = str if choices else field.annotation
    flag = f"--{name.replace('_', '-')}"
    default = "" if field.default in ("", False) else f"[dim](default: {field.default})[/dim]"
    option = typer.Option(
        f"{flag}/--no-{flag[2:]}" if kind is bool else flag,
        help=" ".join(f"{field.description} {default}".split()),
        rich_help_panel=_panel(name),
        metavar="|".join(choices) if choices else None,
        show_default=False,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def refuse_missing(paths: Sequence[Path]) -> None:
    """Check that all files and folders exist. Raises UserError: some are missing; the text names them."""
    if missing := [str(path) for path in paths if not path.exists()]:
        raise UserError(f"{', '.join(missing)}: no such file or folder")


def _panel(name: str) -> str:
    return str(_extra(name, "panel") or "")


def _extra(name: str, key: str) -> Any:
    """Return an extra fact of a field that ``option`` attached, or None."""
    extra = RunConfig.model_fields[name].json_schema_extra
    return extra[key] if isinstance(extra, dict) else None
