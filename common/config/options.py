"""Typer options from the run config, so that command line, TOML and Flower's run config agree."""

import inspect
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.config.settings.option import outside
from fedtransfer.common.errors import UserError


def with_config_options(without: Collection[str] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command an option for each field but ``without``; its ``settings`` are those given.

    The command's own parameters come first, and replace fields of the same name.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        parameters = [*inspect.signature(command, eval_str=True).parameters.values()]
        parameters = [parameter for parameter in parameters if parameter.name != "settings"]
        hidden = {parameter.name for parameter in parameters} | {*without}
        options = [
            _option(name) for name in RunConfig.model_fields if name not in hidden and _extra(name)["panel"]
        ]

        def wrapper(**arguments: Any) -> Any:
            values = {p.name: arguments.pop(p.name) for p in options}
            settings = {outside(name): value for name, value in values.items() if value is not None}
            return command(**arguments, settings=settings)

        wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
        wrapper.__signature__ = inspect.Signature([*parameters, *options])  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in [*parameters, *options]}
        return wrapper

    return decorate


def _option(name: str) -> inspect.Parameter:
    field = RunConfig.model_fields[name]
    # Choices are text for click, since the config's own error names the nearest valid choice.
    choices = list(get_args(field.annotation)) or _extra(name)["choices"]
    kind: Any = str if choices else field.annotation
    flag = f"--{outside(name)}"
    default = "" if field.default in ("", False) else f"[dim](default: {field.default})[/dim]"
    option = typer.Option(
        f"{flag}/--no-{flag[2:]}" if kind is bool else flag,
        help=" ".join(f"{field.description} {default}".split()),
        rich_help_panel=_extra(name)["panel"],
        metavar="|".join(choices) if choices else None,
        show_default=False,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def refuse_missing(paths: Sequence[Path]) -> None:
    """Check that all files and folders exist. Raises UserError: it names those that do not."""
    if missing := [str(path) for path in paths if not path.exists()]:
        raise UserError(f"{', '.join(missing)}: no such file or folder")


def _extra(name: str) -> dict[str, Any]:
    """Return what ``option`` attached to a field: its panel, and the choices that help shows."""
    return RunConfig.model_fields[name].json_schema_extra  # type: ignore[return-value]
