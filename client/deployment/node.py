"""The node of a deployed site: its paths, its class names, and its consent to what a run may ask."""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from fedtransfer.client.consent.ledger import SiteLedger, refuse_beyond_budget
from fedtransfer.client.data import SPLITS
from fedtransfer.client.deployment.exchange_log import ExchangeLog
from fedtransfer.client.deployment.identity import SiteIdentity, identity_among
from fedtransfer.client.deployment.results import keep_result
from fedtransfer.client.deployment.settings import MECHANISMS, SETTINGS, UNPINNED, SiteFolder
from fedtransfer.client.node import Node
from fedtransfer.common.config.config import BUNDLED, KERAS_BACKBONES, RunConfig
from fedtransfer.common.data.images import Image, Problem
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.data.splits import split_of
from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Task

log = logging.getLogger(__name__)

DAY = 24 * 3600.0
PATIENCE = 2.0


@dataclass(frozen=True)
class DeployedNode(Node):
    """The node of a site with a folder of its own."""

    site: SiteFolder | None = field(default=None, compare=False)

    def settings(self, config: RunConfig) -> RunConfig:
        """Return a run's settings with the site's paths, threads and strictness."""
        return self._site.apply(config)

    def refuse(self, config: RunConfig, kind: str) -> None:
        """Refuse a message that ``site.toml`` does not allow.

        Raises:
            SiteError: it is refused; code and text go to the coordinator.
        """
        consent = self._site.settings.consent
        others = [name for name in config.exchanges if name not in consent.methods]
        if consent.methods and others:
            raise SiteError(
                "method-not-allowed",
                f"this site takes part in {', '.join(consent.methods)} only, the run uses "
                f"{', '.join(others)}; agree on one of these",
            )
        site = self._site.settings
        held = config.backbone == BUNDLED or site.backbone or (site.weights and config.backbone in KERAS_BACKBONES)
        if not held:  # a run must not make the site open files, or fetch weights, that it did not name itself
            raise SiteError(
                "backbone-not-held",
                "the run wants another backbone than the bundled one, and this site names none; put the "
                "file there and name it in its site.toml, as backbone or weights",
            )
        if config.feature_statistics and not site.feature_statistics:
            raise SiteError(
                "statistics-not-held",
                "the run standardises or projects features by a file of public statistics, and this site "
                "names none; put the coordinator's file there and name it in its site.toml, as "
                "feature-statistics",
            )
        self._refuse_unprotected(config, kind)
        if config.masks and kind == protocol.QUERY and not self._site.roster:
            log.warning("%s", UNPINNED)
        if consent.rounds_a_day and kind in (protocol.QUERY, protocol.GATHER, protocol.TRAIN):
            done = ExchangeLog(self._site.exchange_log).rounds_since(time.time() - DAY)
            all_rounds = kind == protocol.QUERY and not config.resume
            more = config.gatherings + config.training_rounds if all_rounds else 1
            if done + more > consent.rounds_a_day:
                raise SiteError(
                    "too-many-rounds",
                    f"this site takes part in at most {consent.rounds_a_day} rounds of training or of sums "
                    f"within 24 hours and has done {done}; the run asks for {more} more; lower rounds, or "
                    "wait",
                )

    def _refuse_unprotected(self, config: RunConfig, kind: str) -> None:
        """Refuse a run that lacks a privacy mechanism that the site demands, or exceeds its budget."""
        consent, privacy = self._site.settings.consent, self._site.settings.privacy
        if missing := sorted(set(consent.demand) - set(MECHANISMS)):
            raise SiteError(
                "demand-not-met",
                f"this site demands {', '.join(missing)}, which its version of fedtransfer does not have; "
                "agree on something else, or install a version that has it",
            )
        for name, (has, settings) in MECHANISMS.items():
            if name in consent.demand and not has(config):
                raise SiteError("demand-not-met", f"this site demands {name}, and the run has none; give {settings}")
        if config.dp == "image" and consent.least_images > 1:
            raise SiteError(
                "rare-classes",
                f"this site leaves out classes with fewer than {consent.least_images} images, so one image "
                "can add a whole class, which the noise of --dp image does not hide; its people set "
                "least-images = 1, because that noise hides rare classes, or run without --dp image",
            )
        if config.dp == "image" and self._site.settings.strict:
            raise SiteError(
                "strict",
                "this site stops at the first image that cannot be read, so one image can end its part in "
                "the run, which the noise of --dp image does not hide; its people set strict = false in its "
                "site.toml",
            )
        refuse_beyond_budget(self.ledger, privacy.limit, privacy.delta, config, kind)

    @property
    def ledger(self) -> SiteLedger:
        """The record of privacy spent on the site's training images, over all runs.

        Raises:
            UserError: see ``SiteLedger.open``.
        """
        return SiteLedger.open(self._site.folder)

    def identity(self, name: str, public_keys: Mapping[str, str]) -> SiteIdentity:
        """Return the site's identity among the sites that share masks.

        Raises:
            SiteError: a site is not on this site's roster, or a key is invalid.
            UserError: the site's key or roster cannot be read.
        """
        return identity_among(self._site, name, public_keys)

    def images(self) -> Sequence[Image]:
        """List the images that the site gives to federations, under the federation's class names."""
        return site_images(self._site)

    def keep(self, task: Task, config: RunConfig, fingerprint: str, run: int, *, personal: bool = False) -> None:
        """Keep the head in ``task`` with the settings needed to use it."""
        keep_result(self._site.results, task, config, fingerprint, run, personal=personal)

    @property
    def _site(self) -> SiteFolder:
        assert self.site is not None
        return self.site


@lru_cache(maxsize=1)
def _site_folder(folder: str, modified: int) -> SiteFolder:
    return SiteFolder.open(Path(folder))


def deployed_node(folder: str) -> DeployedNode:
    """Return the node of the site in ``folder``, with its present settings.

    Raises:
        UserError: its settings are invalid.
    """
    path = Path(folder) / SETTINGS
    changed = path.stat().st_mtime_ns if path.exists() else 0
    site = _site_folder(folder, changed)
    least = site.settings.consent.least_images
    data = str(site.path(site.settings.data))
    return DeployedNode(data, site.state, least_images=least, changed=changed, patience=PATIENCE, site=site)


def site_images(site: SiteFolder) -> list[Image]:
    """List the images that a site gives to federations, under the federation's class names.

    Raises:
        UserError: the source cannot be read, ``[classes]`` names an unknown class, or no image is
            left.
    """
    settings = site.settings
    source = read_source(site.path(settings.data))
    if unknown := sorted(set(settings.classes) - set(source.classes)):
        raise UserError(
            f"site.toml, [classes]: {', '.join(map(repr, unknown))} not found in {settings.data}, whose "
            f"classes are {', '.join(map(repr, source.classes))}; correct the names"
        )
    images = [
        replace(image, label=name)
        for image in source.images
        if (name := settings.classes.get(image.label, image.label))
    ]
    counts = Counter(image.label for image in images)
    rare = {name for name, number in counts.items() if number < settings.consent.least_images}
    if rare:
        least = settings.consent.least_images
        log.warning("classes left out with fewer than %d images: %s", least, ", ".join(sorted(rare)))
    images = [image for image in images if image.label not in rare]
    if not images:
        raise UserError(
            f"{settings.data}: no image is left after [classes] and least-images = {settings.consent.least_images}"
        )
    return images


def split_images(site: SiteFolder, config: RunConfig, split: str) -> tuple[list[Image], tuple[Problem, ...]]:
    """Return the images in a split of a run, or in ``all``, and those that cannot be read.

    Raises:
        UserError: the split is unknown or empty.
    """
    if split not in (*SPLITS, "all"):
        raise UserError(f"--split {split}: expected {', '.join(SPLITS)} or all")
    images, problems = [], []
    for image in site_images(site):
        try:
            key = image.key()
        except OSError as error:
            problems.append(Problem(image.path, str(error.strerror)))
            continue
        if split in ("all", split_of(image, key, config.seed, config.test_fraction, config.validation_fraction)):
            images.append(image)
    if not images:
        raise UserError(f"the site has no {split} images; try --split all")
    return images, tuple(problems)
