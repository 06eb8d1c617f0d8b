"""The run config: one typed, validated object behind the command line, TOML files and Flower's run config."""

from typing import Self

from pydantic import model_validator

from fedtransfer.common.config.rules import refuse_contradictions
from fedtransfer.common.config.settings.everything import OPTIONAL_EXCHANGES, Settings
from fedtransfer.common.config.settings.images import BUNDLED, KERAS_BACKBONES, ready_made_width
from fedtransfer.common.config.settings.option import Value, changed, outside
from fedtransfer.common.config.settings.training import Optimizer
from fedtransfer.common.support.text import nearest

_OF_IMAGES = ("weights", "preprocessing", "resolution", "precision", "augment", "trainable", "unfreeze_at")


class RunConfig(Settings):
    """All settings of a run, which go together.

    Raises:
        ValueError: they do not; the text says which and why.
    """

    @model_validator(mode="after")
    def _refuse_what_does_not_combine(self) -> Self:
        if ready_made_width(self.backbone):
            if unusable := [outside(name) for name in _OF_IMAGES if changed(self, name)]:
                raise ValueError(f"{', '.join(unusable)}: needs images; with {self.backbone} the data are features")
        elif self.backbone not in (BUNDLED, *KERAS_BACKBONES) and not self.backbone.endswith((".keras", ".h5")):
            names = nearest(self.backbone, [BUNDLED, *KERAS_BACKBONES])
            raise ValueError(
                f"backbone: got {self.backbone!r}; {names}, or a Keras model file (.keras or .h5), or features-D"
            )
        if self.backbone == BUNDLED and self.preprocessing != "auto":
            raise ValueError(f"preprocessing: {BUNDLED} has its own inside; leave it at auto")
        if self.weights and self.backbone not in KERAS_BACKBONES:
            raise ValueError(
                f"weights: {self.backbone} comes with its own weights; --weights goes with {', '.join(KERAS_BACKBONES)}"
            )
        if 0 < self.resolution < 32:
            raise ValueError(f"resolution: got {self.resolution}; ResNets need at least 32 pixels a side")
        refuse_contradictions(self)
        return self


__all__ = [
    "BUNDLED",
    "KERAS_BACKBONES",
    "OPTIONAL_EXCHANGES",
    "Optimizer",
    "RunConfig",
    "Value",
]
