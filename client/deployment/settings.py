"""``site.toml``: the site's own settings, which no coordinator can change; and its folder."""

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from fedtransfer.common.config.config import BUNDLED, KERAS_BACKBONES, OPTIONAL_EXCHANGES, RunConfig
from fedtransfer.common.config.toml_settings import Table, read_settings
from fedtransfer.common.data.feature_card import FeatureCard, card_of
from fedtransfer.common.data.feature_table import feature_table, holds_features
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.ready_made import without_network
from fedtransfer.common.methods import METHODS
from fedtransfer.common.support.machine import folder_bytes, free_disk_bytes, memory_bytes

SETTINGS = "site.toml"
# Privacy mechanisms by name: whether a run has it, and the settings that give it.
MECHANISMS: Mapping[str, tuple[Callable[[RunConfig], bool], str]] = {
    "dp": (lambda run: run.private, "--dp site or --dp image"),
    "image-dp": (lambda run: run.dp == "image", "--dp image"),
    "masks": (lambda run: run.masks, "--masks"),
}
UNPINNED = (
    "no roster: in runs with masks this site trusts the coordinator to say which key belongs to whom, so a "
    "coordinator that invents sites could unmask this site's answers; to check the keys, see fedtransfer "
    "client roster --help"
)
EXCHANGES = (*METHODS, *OPTIONAL_EXCHANGES)
_SHARE = 0.5  # of the machine's memory, and of the disk that features have or could have
_LEAST_BYTES = 2e9  # of memory: what a worker needs with the bundled network, and some room
_HASH = re.compile(r"[0-9a-f]{64}")
_ADDRESS = re.compile(r"([^\s:/\[\]]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")


class Consent(Table):
    """What a run may ask of the site."""

    methods: tuple[str, ...] = ()  # strategies and one-shot heads (--init) that a run may use; empty: any
    rounds_a_day: int = Field(0, ge=0)  # of training or sums within 24 hours, over all runs; 0: no limit
    least_images: int = Field(1, ge=1)  # classes with fewer images are left out of the federation
    demand: tuple[str, ...] = ()  # privacy mechanisms that a run must use; an unknown one refuses every run
    bundles: tuple[str, ...] = ("installed",)  # hashes of app bundles; "installed": the site's own

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
    """Privacy that all runs together may spend on an image of the site, added or removed."""

    epsilon: float = Field(0.0, ge=0)  # 0: no limit
    delta: float = Field(1e-5, gt=0, lt=0.1)


class Limits(Table):
    """What a run may cost the site."""

    memory_gb: float = Field(0.0, ge=0)  # of the worker; 0: half of this machine's
    disk_gb: float = Field(0.0, ge=0)  # of all features; 0: half of the disk that they have or could have
    seconds_an_answer: int = Field(3600, ge=0)  # after which the worker is ended; 0: no limit
    hours_to_prepare: float = Field(24.0, ge=0)  # for a run's features; 0: no limit

    @property
    def memory(self) -> float:
        """The most bytes of memory for the worker."""
        return self.memory_gb * 1e9 or max(_SHARE * memory_bytes(), _LEAST_BYTES)

    def disk(self, store: Path) -> float:
        """The most bytes of disk for all features, which are in the folder ``store``."""
        return self.disk_gb * 1e9 or _SHARE * (free_disk_bytes(store) + folder_bytes(store))


class MessagesADay(Table):
    """The most messages of each kind that are answered within 24 hours, over all runs; 0: no limit.

    The defaults are beyond what a run asks for, and short of what a site could be worn out with.
    """

    query: int = Field(100_000, ge=0)  # descriptions, and the progress of features that are being made
    train: int = Field(100_000, ge=0)  # rounds of training
    gather: int = Field(1000, ge=0)  # sums of features
    evaluate: int = Field(10_000, ge=0)  # scores of a head
    trial: int = Field(1000, ge=0)  # scores of several heads
    personal: int = Field(1000, ge=0)  # personal heads
    finish: int = Field(1000, ge=0)  # results
    masks: int = Field(200_000, ge=0)  # each of the four stages of secure aggregation


class SiteSettings(Table):
    """The whole file. Paths are relative to its folder."""

    name: str = Field(min_length=1)  # the coordinator may enrol the site under another
    coordinator: str  # its address, host:port
    authority: str = "ca.crt"  # the coordinator's
    # Images: a folder of class folders, a CSV manifest or an .npz archive; or ready-made features.
    data: str = Field(min_length=1)
    backbone: str = ""  # files that replace those in a run's settings, as ``weights`` do; "" to use the run's
    weights: str = ""
    feature_statistics: str = ""  # the file that replaces a run's; "" to take part in no run that has one
    store: str = "features"  # folder of the feature store
    threads: int = Field(0, ge=0)  # image batches extracted at a time; 0 for one per core
    compute: Literal["auto", "openvino", "tensorflow"] = "auto"  # what computes features
    strict: bool = False  # stop at the first image that cannot be read
    roster: str = ""  # file of the sites to share masks with; "" to trust the coordinator about their keys
    classes: dict[str, str] = Field(default_factory=dict)  # site's name → federation's; "": left out
    consent: Consent = Field(default_factory=lambda: Consent.model_validate({}))
    limits: Limits = Field(default_factory=lambda: Limits.model_validate({}))
    messages_a_day: MessagesADay = Field(default_factory=lambda: MessagesADay.model_validate({}))
    privacy: Privacy = Field(default_factory=lambda: Privacy.model_validate({}))

    @field_validator("coordinator")
    @classmethod
    def _an_address(cls, address: str) -> str:
        match = _ADDRESS.fullmatch(address)
        if not match or not 1 <= int(match[2]) <= 65535:
            raise ValueError("expected host:port, as in fed.example.org:9443")
        host = match[1]
        if host.startswith("["):
            try:
                IPv6Address(host.strip("[]"))
            except ValueError as error:
                raise ValueError(f"expected [IPv6 address]:port, as in [2001:db8::7]:9443: {error}") from None
        elif not host.isascii() or not all(1 <= len(label) <= 63 for label in host.split(".")):
            raise ValueError(
                "expected a host name with parts of 1 to 63 characters between its dots, and letters beyond "
                "ASCII in their xn-- form"
            )
        return address


class SiteFolder:
    """A site's folder, with the settings in its site.toml."""

    def __init__(self, folder: Path, settings: SiteSettings) -> None:
        self.folder, self.settings = folder, settings
        self.authority = self.path(settings.authority)  # the certificate of what signs the coordinator's
        self.key, self.public_key = folder / "site.key", folder / "site.pub"
        # What replaces them once the coordinator has taken up the renewal.
        self.next_key, self.next_public_key = folder / "next.key", folder / "next.pub"
        # The sites to share masks with; None to trust the coordinator about their keys.
        self.roster = self.path(settings.roster) if settings.roster else None
        self.state = folder / "state"  # of the running site: logs, the worker's socket, Flower's node id
        self.connection = self.state / "connection.json"  # is it connected to the coordinator, and why not
        self.results = folder / "results"  # one folder per run
        self.exchange_log = folder / "sent.jsonl"  # the log of messages that left the site
        self.pins = self.state / "pins"  # settings and classes of runs in their first messages

    @classmethod
    def open(cls, folder: Path) -> "SiteFolder":
        """Open a folder that ``fedtransfer client init`` made.

        Raises:
            UserError: it is not a site's folder, or its settings are invalid.
        """
        path = folder / SETTINGS
        if not path.is_file():
            raise UserError(
                f"{folder.absolute()} is not a site's folder (it has no {SETTINGS}); "
                "make one with fedtransfer client init DIR, or name it with --dir"
            )
        return cls(folder.absolute(), read_settings(path, SiteSettings))

    def path(self, value: str) -> Path:
        """Return a path in the settings as one relative to the site's folder."""
        return self.folder / Path(value).expanduser()

    def apply(self, config: RunConfig) -> RunConfig:
        """Return a run's settings with the site's paths, threads, strictness and engine.

        Raises:
            UserError: a site with ready-made features needs the run's network all the same.
        """
        site = self.settings
        changes = {"threads": site.threads, "strict": site.strict, "store": str(self.path(site.store))}
        changes["compute"] = site.compute
        if site.backbone and not card_of(config.backbone):
            is_name = site.backbone in (BUNDLED, *KERAS_BACKBONES)
            changes["backbone"] = site.backbone if is_name else str(self.path(site.backbone))
        if site.backbone or site.weights:
            changes["weights"] = str(self.path(site.weights)) if site.weights else ""
        if config.feature_statistics and site.feature_statistics:
            changes["feature_statistics"] = str(self.path(site.feature_statistics))
        config = config.model_copy(update=changes)
        card = self.card
        return without_network(config, card, named=self.names(config)) if card else config

    def names(self, config: RunConfig) -> bool:
        """Whether the site itself names the file of a run's network, as it must to be opened."""
        return bool(self.settings.backbone or (self.settings.weights and config.backbone in KERAS_BACKBONES))

    @property
    def card(self) -> FeatureCard | None:
        """What made the site's ready-made features; None if it has images.

        Raises:
            UserError: its features file is damaged.
        """
        data = self.path(self.settings.data)
        return feature_table(str(data)).card if holds_features(data) else None
