"""The run config: one validated object behind command line, TOML files and Flower's run config."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from fedtransfer.common.config.rules import refuse_contradictions
from fedtransfer.common.config.settings.everything import OPTIONAL_EXCHANGES, Settings
from fedtransfer.common.config.settings.option import Value, changed_of
from fedtransfer.common.config.settings.preprocessing import refuse_unknown
from fedtransfer.common.config.settings.training import (
    BUNDLED,
    KERAS_BACKBONES,
    Optimizer,
    onnx_parts,
    ready_made_width,
)
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.text import nearest

__all__ = ["BUNDLED", "KERAS_BACKBONES", "OPTIONAL_EXCHANGES", "Optimizer", "RunConfig", "Value"]

PRESETS: dict[str, dict[str, Value]] = {  # recipes: settings that belong together (--preset)
    # The classic transfer recipe: ImageNet ResNet50V2 at 224 px, Adam on cross-entropy, 20 %
    # validation, early stopping with patience 5; the server takes the plain weighted mean.
    "article": {
        "backbone": "resnet50v2", "resolution": 224, "optimizer": "adam", "learning-rate": 0.001,
        "local-epochs": 20, "validation-fraction": 0.2, "patience": 5, "rounds": 20,
        "server-learning-rate": 1.0, "server-momentum": 0.0,
    },
}  # fmt: skip
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
_OF_IMAGES = (
    "weights", "preprocessing", "resolution", "fit", "precision", "augment", "trainable", "unfreeze_at"
)  # fmt: skip


class RunConfig(Settings):
    """All settings of a run, which go together.

    Raises:
        ValueError: they do not; the text says which and why.
    """

    @model_validator(mode="after")
    def _refuse_what_does_not_combine(self) -> Self:
        named = (BUNDLED, *KERAS_BACKBONES)
        if ready_made_width(self.backbone):
            if unusable := changed_of(self, _OF_IMAGES):
                raise ValueError(f"{unusable}: needs images; with {self.backbone} the data are features")
        elif onnx_parts(self.backbone):
            self._refuse_what_needs_keras()
        elif self.backbone not in named and not self.backbone.endswith((".keras", ".h5")):
            names = (
                f"{nearest(self.backbone, [*named])}, or a file of a network (.keras, .h5 or .onnx), "
                "or features-D"
            )
            raise ValueError(f"backbone: got {self.backbone!r}; {names}")
        refuse_unknown(self.preprocessing)
        if self.backbone == BUNDLED and self.preprocessing != "auto":
            raise ValueError(f"preprocessing: {BUNDLED} has its own inside; leave it at auto")
        if self.weights and self.backbone not in KERAS_BACKBONES:
            users = ", ".join(KERAS_BACKBONES)
            raise ValueError(
                f"weights: {self.backbone} comes with its own weights; --weights goes with {users}"
            )
        if 0 < self.resolution < 32:
            raise ValueError(f"resolution: got {self.resolution}; ResNets need at least 32 pixels a side")
        refuse_contradictions(self)
        return self

    def _refuse_what_needs_keras(self) -> None:
        network = f"the backbone {self.backbone} is ONNX"
        if self.trainable != "head" or self.unfreeze_at:
            name = "unfreeze-at" if self.unfreeze_at else "trainable"
            raise ValueError(f"{name}: {network}, and only a Keras network is trained; train the head alone")
        if self.compute == "tensorflow":
            raise ValueError(f"compute tensorflow: {network}, which OpenVINO computes; leave it at auto")
        if self.export == "keras":
            raise ValueError(f"export keras: {network}, and so is a model of it; leave it at auto")

    @property
    def model_file(self) -> str:
        """The name of a model that is made of a head of this run: ``model.keras`` or ``.onnx``."""
        by_backbone = "onnx" if onnx_parts(self.backbone) else "keras"
        return f"model.{by_backbone if self.export == 'auto' else self.export}"


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
    """Drop settings of earlier versions at their default. Raises UserError: one is not."""
    if problems := [
        f"{source}: {key}: no setting of this version, got {values[key]!r}; {remedy}, so leave it out"
        for key, (default, remedy) in RETIRED.items()
        if key in values and values[key] != default
    ]:
        raise UserError("\n".join(problems))
    return {key: value for key, value in values.items() if key not in RETIRED}


def read_config(path: Path) -> RunConfig:
    """Read a run's ``config.toml``; errors are those of ``read_toml`` and ``make_config``."""
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
    """Read a config file's settings. Raises UserError: it is missing, unreadable or not TOML."""
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
