"""``site.toml``: what the site decides for itself. No coordinator can change it."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, field_validator

from fedtransfer.common.config.config import BUNDLED, KERAS_BACKBONES, OPTIONAL_EXCHANGES, RunConfig
from fedtransfer.common.config.toml_settings import Table, read_settings
from fedtransfer.common.errors import UserError
from fedtransfer.common.methods import METHODS

SETTINGS = "site.toml"
MECHANISMS: Mapping[
    str, tuple[Callable[[RunConfig], bool], str]
] = {  # by name: whether a run has it, and by which settings
    "dp": (lambda run: run.private, "--dp site or --dp image"),
    "image-dp": (lambda run: run.dp == "image", "--dp image"),
    "masks": (lambda run: run.masks, "--masks"),
}
UNPINNED = (
    "no roster: in runs with masks it takes the coordinator's word for whose keys are whose, so a coordinator that invents sites "
    "could unmask what this one sends; to know them yourself, see fedtransfer client roster --help"
)
EXCHANGES = (*METHODS, *OPTIONAL_EXCHANGES)
_HASH = re.compile(r"[0-9a-f]{64}")
_ADDRESS = re.compile(r"([^\s:/\[\]]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")


class Consent(Table):
    """What a run may ask of the site.

    Attributes:
        methods: what a run may make its head by: strategies, and the one-shot heads that it begins with; empty for any.
        rounds_a_day: rounds that it answers within 24 hours, of training or of sums, over all runs; 0 for no bound.
        least_images: a class with fewer images than this is kept out of the federation altogether.
        demand: privacy mechanisms that a run must use; one that this version does not have refuses every run.
        bundles: hashes of the app bundles that it answers; ``installed`` is that of its own fedtransfer.
    """

    methods: tuple[str, ...] = ()
    rounds_a_day: int = Field(0, ge=0)
    least_images: int = Field(1, ge=1)
    demand: tuple[str, ...] = ()
    bundles: tuple[str, ...] = ("installed",)

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [method for method in methods if method not in EXCHANGES]:
            raise ValueError(f"unknown {', '.join(unknown)}; this version has {', '.join(EXCHANGES)}")
        return methods

    @field_validator("bundles")
    @classmethod
    def _hashes(cls, bundles: tuple[str, ...]) -> tuple[str, ...]:
        if not bundles or not all(name == "installed" or _HASH.fullmatch(name) for name in bundles):
            raise ValueError('expected "installed", or hashes of 64 hexadecimal digits')
        return bundles


class Privacy(Table):
    """What all runs together may spend on an image of the site: differential privacy, for one added or removed.

    Attributes:
        epsilon: ε; 0 for no bound.
        delta: δ.
    """

    epsilon: float = Field(0.0, ge=0)
    delta: float = Field(1e-5, gt=0, lt=0.1)

    @property
    def bound(self) -> float:
        """ε, infinite where there is no bound."""
        return self.epsilon or math.inf


class SiteSettings(Table):
    """The whole file; paths are relative to its folder.

    Attributes:
        name: what the site calls itself; the coordinator decides under which name it is enrolled.
        coordinator: host:port.
        authority: the coordinator's ca.crt.
        data: images, as everywhere: a folder of class folders, a CSV manifest or an .npz archive.
        backbone, weights: files that stand for those of the same name in a run's settings; "" to use the run's.
        feature_statistics: the file that stands for that of a run which has one; "" to take part in no such run.
        store: folder of the feature store.
        threads: image batches extracted at a time; 0 for one a core.
        strict: stop at the first image that cannot be read.
        roster: file of the sites with which it shares masks; "" to believe the coordinator who they are.
        classes: the site's name for a class → the federation's; "" keeps the class out.
        consent: what a run may ask.
        privacy: what all runs together may spend.
    """

    name: str = Field(min_length=1)
    coordinator: str
    authority: str = "ca.crt"
    data: str = Field(min_length=1)
    backbone: str = ""
    weights: str = ""
    feature_statistics: str = ""
    store: str = "features"
    threads: int = Field(0, ge=0)
    strict: bool = False
    roster: str = ""
    classes: dict[str, str] = Field(default_factory=dict)
    consent: Consent = Field(default_factory=lambda: Consent.model_validate({}))
    privacy: Privacy = Field(default_factory=lambda: Privacy.model_validate({}))

    @field_validator("coordinator")
    @classmethod
    def _an_address(cls, address: str) -> str:
        found = _ADDRESS.fullmatch(address)
        if not found or not 1 <= int(found[2]) <= 65535:
            raise ValueError("expected host:port, as in fed.example.org:9443")
        return address


@dataclass(frozen=True)
class SiteFolder:
    """A site's folder, opened.

    Attributes:
        folder: it.
        settings: what its site.toml says.
    """

    folder: Path
    settings: SiteSettings

    @classmethod
    def open(cls, folder: Path) -> "SiteFolder":
        """Open a folder that ``fedtransfer client init`` made.

        Raises:
            UserError: it is none, or its settings are not right.
        """
        path = folder / SETTINGS
        if not path.is_file():
            raise UserError(
                f"{folder.absolute()} is no site's folder (it has no {SETTINGS}); "
                "make one with fedtransfer client init DIR, or name it with --dir"
            )
        return cls(folder.absolute(), read_settings(path, SiteSettings))

    def path(self, value: str) -> Path:
        """Return a path of the settings, taken from the site's folder."""
        return self.folder / Path(value).expanduser()

    def apply(self, config: RunConfig) -> RunConfig:
        """Return a run's settings with the site's own paths, threads and strictness."""
        own = self.settings
        changes = {"threads": own.threads, "strict": own.strict, "store": str(self.path(own.store))}
        if own.backbone:
            named = own.backbone in (BUNDLED, *KERAS_BACKBONES)
            changes["backbone"] = own.backbone if named else str(self.path(own.backbone))
        if own.backbone or own.weights:
            changes["weights"] = str(self.path(own.weights)) if own.weights else ""
        if config.feature_statistics and own.feature_statistics:
            changes["feature_statistics"] = str(self.path(own.feature_statistics))
        return config.model_copy(update=changes)

    @property
    def authority(self) -> Path:
        """The certificate that the coordinator's must be signed by."""
        return self.path(self.settings.authority)

    @property
    def key(self) -> Path:
        """The site's private key."""
        return self.folder / "site.key"

    @property
    def roster(self) -> Path | None:
        """The sites with which it shares masks, as their own people say; None to believe the coordinator."""
        return self.path(self.settings.roster) if self.settings.roster else None

    @property
    def state(self) -> Path:
        """What the running site needs: logs, the worker's socket, Flower's number for it."""
        return self.folder / "state"

    @property
    def results(self) -> Path:
        """The heads that federations ended with, a folder a run."""
        return self.folder / "results"

    @property
    def exchange_log(self) -> Path:
        """The log of what left the site."""
        return self.folder / "sent.jsonl"
