"""Read a run config from what a user gives: TOML files, presets, options, Flower's flat run config."""

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
    """Validate settings given under their outside names.

    Raises:
        UserError: names each unknown key with the nearest valid one, and each bad value with what was expected.
    """
    values, known = without_retired(values, source), list(RunConfig().to_flat())
    unknown = [key for key in values if key not in known]
    if unknown:
        raise UserError("\n".join(f"{source}: unknown key {key!r}; {nearest(key, known)}" for key in unknown))
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
        UserError: as ``read_toml`` and ``make_config`` say.
    """
    return make_config(read_toml(path), str(path))


def _explain(problem: Any) -> str:
    if problem["type"] == "value_error":  # our own texts, complete as they are
        return str(problem["ctx"]["error"])
    key = ".".join(map(str, problem["loc"]))
    text = f"{key}: got {problem['input']!r}; {problem['msg'][0].lower()}{problem['msg'][1:]}"
    if problem["type"] == "literal_error" and isinstance(problem["input"], str):
        field = RunConfig.model_fields[key.replace("-", "_")]
        text = f"{key}: got {problem['input']!r}; {nearest(problem['input'], list(field.annotation.__args__))}"  # type: ignore[union-attr]
    return text


def read_toml(path: Path) -> dict[str, Any]:
    """Read a config file's settings.

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
    """Layer defaults, preset, file and explicit settings (the later wins) into one config.

    Raises:
        UserError: an unknown preset or key, a bad value, or a file that cannot be read.
    """
    if preset and preset not in PRESETS:
        raise UserError(f"--preset: got {preset!r}; {nearest(preset, list(PRESETS))}")
    layers: dict[str, Any] = dict(PRESETS.get(preset, {}))
    if file is not None:
        settings = read_toml(file)
        make_config(settings, f"config file {file}")  # so that an error names the file it stands in
        layers |= settings
    if overrides:
        make_config({**layers, **overrides}, "options")
        layers |= overrides
    return make_config(layers, "config")
