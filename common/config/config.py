"""The run config: one typed, validated object behind the command line, TOML files and Flower's run config.

Flower's run config is flat, knows neither lists nor null and overrides only keys that are present in
``pyproject.toml``; so every field is a string, number or boolean, and 0 or "" says "not set". The fields stand by
subject in ``common/settings/``.
"""

from typing import Literal, Self, get_args

import tomli_w
from pydantic import model_validator

from fedtransfer.common.config.rules import refuse_contradictions
from fedtransfer.common.config.settings.federation import (
    FederationSettings,
    OneShot,
    Strategy,
    StrategySettings,
    TrustSettings,
)
from fedtransfer.common.config.settings.images import (
    BUNDLED,
    KERAS_BACKBONES,
    BackboneSettings,
    DataSettings,
    FeatureSettings,
)
from fedtransfer.common.config.settings.option import Settings, Value, option
from fedtransfer.common.config.settings.privacy import PrivacySettings
from fedtransfer.common.config.settings.training import HeadSettings, Optimizer, TrainingSettings
from fedtransfer.common.support.text import nearest

ONE_SHOT: tuple[str, ...] = get_args(OneShot)
BESIDE = ("federated-statistics", "deeper-layers")  # what a run may ask for besides, and a site refuse


class RunSettings(Settings):
    """How and where it runs."""

    seed: int = option(0, "Run", "Seed of every random choice.", ge=0)
    engine: Literal["inprocess", "ray", "deployment"] = option(
        "inprocess",
        "Run",
        "What carries the messages between server and sites: this process, Flower's Ray engine, or real processes with"
        " TLS and keys on this machine.",
    )
    ray_address: str = option("", "Run", "Ray cluster to use with --engine ray (default: one on this machine).")
    client_cpus: float = option(1.0, "Run", "CPU cores a site's work takes, with --engine ray.", gt=0)
    client_gpus: float = option(
        0.0, "Run", "GPUs, or a share of one, that a site's work takes, with --engine ray.", ge=0
    )
    threads: int = option(
        0,
        "Run",
        "Sites trained and image batches extracted at a time (0: one a core). Results do not depend on it.",
        ge=0,
    )
    baselines: bool = option(
        True, "Run", "Train the baselines of a simulation too: pooled, local only, majority class."
    )
    models: bool = option(
        True,
        "Run",
        "Write the best and the last head as Keras models too, images in; else `fedtransfer predict` makes one when first asked.",
    )
    out: str = option("", "Run", "Run folder (default: runs/DATA-DATE-TIME).")
    store: str = option("", "Run", "Folder of the feature store (default: ~/.cache/fedtransfer/features).")
    prepared: str = option(
        "", "", "Folder of `fedtransfer simulate --prepare`, whose sites Flower's own simulation works for."
    )
    resume: bool = option(False, "Run", "Go on with the run in the run folder.")
    log_json: str = option("", "Run", "File to which one JSON line an event is added (-: standard error).")
    callbacks: str = option("", "Run", "What else looks on: mlflow, or module:Class, separated by commas.")


class RunConfig(  # pydantic lists the fields of the last base first
    RunSettings, PrivacySettings, TrustSettings, StrategySettings, FederationSettings, TrainingSettings, HeadSettings, FeatureSettings,
    BackboneSettings, DataSettings,
):  # fmt: skip
    """All that determines a run."""

    @model_validator(mode="after")
    def _refuse_what_does_not_combine(self) -> Self:
        if self.backbone not in (BUNDLED, *KERAS_BACKBONES) and not self.backbone.endswith((".keras", ".h5")):
            names = nearest(self.backbone, [BUNDLED, *KERAS_BACKBONES])
            raise ValueError(f"backbone: got {self.backbone!r}; {names}, or a Keras model file (.keras or .h5)")
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

    @property
    def closed_form(self) -> bool:
        """Whether the run ends with a one-shot head, without any round of training."""
        return self.strategy in ONE_SHOT

    @property
    def one_shot(self) -> str:
        """The one-shot head that the run begins with; "" for none."""
        return self.strategy if self.closed_form else self.init if self.init != "zeros" else ""

    @property
    def methods(self) -> tuple[str, ...]:
        """What a site takes part in: the one-shot head that the run begins with, its strategy, and what more it asks for."""
        deep = self.trainable != "head" or self.unfreeze_at
        more = (name for name, wanted in zip(BESIDE, (self.standardise == "federated", deep), strict=True) if wanted)
        return tuple(dict.fromkeys(name for name in (self.one_shot, self.strategy, *more) if name))

    @property
    def gatherings(self) -> int:
        """How often sites send sums of their features before the first round."""
        return (self.standardise == "federated") + bool(self.one_shot)

    @property
    def weights_of_sites(self) -> str:
        """What a site's update is multiplied by; strategies that count every site once have it sent as it is."""
        return "uniform" if self.strategy in ("median", "trimmed-mean", "reptile") else self.weighting

    @property
    def private(self) -> bool:
        """Whether the run promises differential privacy: then nothing leaves a site but what is accounted for."""
        return self.dp != "none"

    @property
    def hides_counts(self) -> bool:
        """Whether sites keep to themselves how many images they have, in all and of each class."""
        return self.private or self.masks

    @property
    def secret_cohorts(self) -> bool:
        """Whether nobody may know which sites a round had, which is what a sample of them is accounted for by."""
        return self.dp == "site" and self.noise == "alone" and self.fraction < 1

    @property
    def private_steps(self) -> int:
        """Releases of a site in a round, under differential privacy of images: steps of training, or one of sums."""
        return 1 if self.closed_form else self.local_steps or max(1, round(self.local_epochs / self.image_rate))

    @property
    def honest_sites(self) -> int:
        """So many sites of a total add their share of the noise, at least."""
        return self.min_sites - self.colluding_sites

    @property
    def training_rounds(self) -> int:
        """Rounds of training: none where the head is a closed form."""
        return 0 if self.closed_form else self.rounds

    @property
    def declared_classes(self) -> tuple[str, ...]:
        """The names of ``class_names``; none where the classes are those found."""
        return tuple(name.strip() for name in self.class_names.split(",") if name.strip())

    @property
    def participants(self) -> int:
        """Number of sites that the federation has: those of a simulation without the unseen ones."""
        return self.sites - self.unseen_sites

    @property
    def adaptation_epochs(self) -> int:
        """Epochs for which a site fine-tunes the global head to a personal one; 0 where the run makes none."""
        # What these two train is a head to adapt. How that went would tell of private images, so there it is left to sites.
        adapts = self.strategy in ("reptile", "perfedavg") and not self.private
        return self.personal_epochs or (self.local_epochs if adapts else 0)

    def to_flat(self) -> dict[str, Value]:
        """Return every setting under its outside name: what TOML files and Flower's run config hold."""
        return self.model_dump(by_alias=True)

    def to_toml(self) -> str:
        """Return the config as a TOML document that ``read_toml`` reads back."""
        return tomli_w.dumps(self.to_flat())


__all__ = ["BESIDE", "BUNDLED", "KERAS_BACKBONES", "ONE_SHOT", "OneShot", "Optimizer", "RunConfig", "Strategy", "Value"]
