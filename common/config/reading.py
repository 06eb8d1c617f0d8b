"""Run configs from TOML files, presets, options and Flower's flat run config."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fedtransfer.common.config.config import RunConfig, Value
from fedtransfer.common.config.presets import PRESETS
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.text import nearest

# Settings of earlier versions: default, and the remedy if a run has another value.
RETIRED: dict[str, tuple[Value, str]] = {
    "clip-quantile": (0.0, "--clip bounds updates in every round"),
    "ema": (0.0, "the best head by validation loss is the run's result"),
    "final-rate": (0.01, "--schedule cosine ends at 0.01 of the rate"),
    "interpolate": (False, "the best head by validation loss is the run's result"),
    "l1": (0.0, "--l2 and --weight-decay hold the weights back"),
    "label-smoothing": (0.0, "--weight-decay and --dropout regularise the head"),
    "mask-neighbours": (0, "the number of neighbours follows from the number of sites"),
    "min-delta": (0.0, "--early-stopping counts rounds without any improvement"),
    "server-optimizer": ("adam", "fedopt follows Keras' Adam; --strategy fedavg has a momentum"),
    "warmup-rounds": (0, "the rate is highest in the first round"),
}


def make_config(values: Mapping[str, Any], source: str) -> RunConfig:
    """Return a run config from settings by their hyphenated names.

    >>> make_config({"rounds": 3, "server-momentum": 0.0}, "example").rounds
    3

    Raises:
        UserError: a key is unknown, or a value invalid; the text names the nearest valid key, or
            the expected values.
    """
    values, names = without_retired(values, source), list(RunConfig().to_flat())
    unknown = [key for key in values if key not in names]
    if unknown:
        raise UserError("\n".join(f"{source}: unknown key {key!r}; {nearest(key, names)}" for key in unknown))
    try:
        return RunConfig.model_validate(dict(values), strict=False)
    except ValidationError as error:
        raise UserError("\n".join(f"{source}: {_explain(problem)}" for problem in error.errors())) from None


def without_retired(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Drop settings of earlier versions that have their default.

    Raises:
        UserError: one has another value; the text says what to do.
    """
    if problems := [
        f"{source}: {key}: no setting of this version, got {values[key]!r}; {remedy}, so leave it out"
        for key, (default, remedy) in RETIRED.items()
        if key in values and values[key] != default
    ]:
        raise UserError("\n".join(problems))
    return {key: value for key, value in values.items() if key not in RETIRED}


def read_config(path: Path) -> RunConfig:
    """Read a run's ``config.toml``.

    Raises:
        UserError: as in ``read_toml`` and ``make_config``.
    """
    return make_config(read_toml(path), str(path))


def _explain(problem: Any) -> str:
    if problem["type"] == "value_error":  # a complete text of ours
        return str(problem["ctx"]["error"])
    key = ".".join(map(str, problem["loc"]))
    text = f"{key}: got {problem['input']!r}; {problem['msg'][0].lower()}{problem['msg'][1:]}"
    if problem["type"] == "literal_error" and isinstance(problem["input"], str):
        field = RunConfig.model_fields[key.replace("-", "_")]
        choices = list(field.annotation.__args__)  # type: ignore[union-attr]
        text = f"{key}: got {problem['input']!r}; {nearest(problem['input'], choices)}"
    return text


def read_toml(path: Path) -> dict[str, Any]:
    """Read the settings of a config file.

    Raises:
        UserError: the file is missing, unreadable or not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(
            f"config file {path}: {error.strerror}; expected a TOML file such as a run folder's config.toml"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"config file {path} is not valid TOML: {error}") from None


def resolve_config(
    *, preset: str = "", file: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> RunConfig:
    """Combine defaults, preset, file and explicit settings into one config; later ones win.

    Raises:
        UserError: a preset or key is unknown, a value is invalid, or the file cannot be read.
    """
    if preset and preset not in PRESETS:
        raise UserError(f"--preset: got {preset!r}; {nearest(preset, list(PRESETS))}")
    layers: dict[str, Any] = dict(PRESETS.get(preset, {}))
    if file is not None:
        settings = read_toml(file)
        make_config(settings, f"config file {file}")  # an error in the file names the file
        layers |= settings
    if overrides:
        make_config({**layers, **overrides}, "options")
        layers |= overrides
    return make_config(layers, "config")
