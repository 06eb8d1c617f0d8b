"""A real site's place: its own paths, its own class names, and its say over what a run may ask."""

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
from fedtransfer.client.deployment.results import keep_personal_head, keep_result
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
    """The place of a site with a folder of its own."""

    site: SiteFolder | None = field(default=None, compare=False)

    def settings(self, config: RunConfig) -> RunConfig:
        """Return a run's settings with the site's own paths, threads and strictness."""
        return self._site.apply(config)

    def refuse(self, config: RunConfig, kind: str) -> None:
        """Refuse what ``site.toml`` does not allow.

        Raises:
            SiteError: the code and the text are for the coordinator.
        """
        consent = self._site.settings.consent
        others = [name for name in config.exchanges if name not in consent.methods]
        if consent.methods and others:
            raise SiteError(
                "method-not-allowed",
                f"this site takes part in {', '.join(consent.methods)} only, the run uses {', '.join(others)}; "
                "agree on one of these",
            )
        own = self._site.settings
        held = config.backbone == BUNDLED or own.backbone or (own.weights and config.backbone in KERAS_BACKBONES)
        if not held:  # a run must not make the site open files, or fetch weights, that it did not name itself
            raise SiteError(
                "backbone-not-held",
                "the run wants another backbone than the bundled one, and this site names none; put the file there and "
                "name it in its site.toml, as backbone or weights",
            )
        if config.feature_statistics and not own.feature_statistics:
            raise SiteError(
                "statistics-not-held",
                "the run standardises or projects features by a file of public statistics, and this site names none; put "
                "the coordinator's file there and name it in its site.toml, as feature-statistics",
            )
        self._refuse_unprotected(config, kind)
        if config.masks and kind == protocol.QUERY and not self._site.roster:
            log.warning("%s", UNPINNED)
        if consent.rounds_a_day and kind in (protocol.QUERY, protocol.GATHER, protocol.TRAIN):
            done = ExchangeLog(self._site.exchange_log).rounds_since(time.time() - DAY)
            whole = kind == protocol.QUERY and not config.resume
            wanted = config.gatherings + config.training_rounds if whole else 1
            if done + wanted > consent.rounds_a_day:
                raise SiteError(
                    "too-many-rounds",
                    f"this site takes part in at most {consent.rounds_a_day} rounds of training or of sums within 24 "
                    f"hours and has done {done}; the run asks for {wanted} more; lower rounds, or wait",
                )

    def _refuse_unprotected(self, config: RunConfig, kind: str) -> None:
        """Refuse a run without the mechanisms that the site demands, or one that would spend more than it allows."""
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
                f"this site keeps out classes of fewer than {consent.least_images} images, so one image can bring a whole class in, "
                "which the noise of --dp image is not for; its people set least-images = 1, since that noise hides rare classes, or run "
                "without --dp image",
            )
        if config.dp == "image" and self._site.settings.strict:
            raise SiteError(
                "strict",
                "this site stops at the first image that cannot be read, so one image can end its part in the run, and the "
                "noise of --dp image does not hide that; its people set strict = false in its site.toml",
            )
        refuse_beyond_budget(self.ledger, privacy.bound, privacy.delta, config, kind)

    @property
    def ledger(self) -> SiteLedger:
        """What the site's training images have been part of, over all runs.

        Raises:
            UserError: see ``SiteLedger.open``.
        """
        return SiteLedger.open(self._site.folder)

    def identity(self, name: str, told: Mapping[str, str]) -> SiteIdentity:
        """Return who the site is among those that it shares masks with.

        Raises:
            SiteError: the coordinator names one that is not on the site's roster, or its keys cannot be right.
            UserError: the site's key or roster cannot be read.
        """
        return identity_among(self._site, name, told)

    def images(self) -> Sequence[Image]:
        """List the images that the site gives to federations, under the federation's class names."""
        return site_images(self._site)

    def keep(self, task: Task, config: RunConfig, fingerprint: str, run: int) -> None:
        """Keep the head that a run ended with, and the settings that say how to use it."""
        keep_result(self._site.results, task, config, fingerprint, run)

    def keep_personal(self, task: Task, config: RunConfig, fingerprint: str, run: int) -> None:
        """Keep the head in ``task``, which the site made of the result for itself, beside it."""
        keep_personal_head(self._site.results, task, config, fingerprint, run)

    @property
    def _site(self) -> SiteFolder:
        assert self.site is not None
        return self.site


@lru_cache(maxsize=1)
def _opened(folder: str, modified: int) -> SiteFolder:
    return SiteFolder.open(Path(folder))


def deployed_node(folder: str) -> DeployedNode:
    """Return the place of the site in ``folder``, with its settings as they are now.

    Raises:
        UserError: its settings are not right.
    """
    path = Path(folder) / SETTINGS
    changed = path.stat().st_mtime_ns if path.exists() else 0
    site = _opened(folder, changed)
    least = site.settings.consent.least_images
    data = str(site.path(site.settings.data))
    return DeployedNode(data, site.state, least_images=least, changed=changed, patience=PATIENCE, site=site)


def site_images(site: SiteFolder) -> list[Image]:
    """List the images that a site gives to federations, under the federation's class names.

    Raises:
        UserError: the source cannot be read, ``[classes]`` names a class that is not there, or nothing is left.
    """
    settings = site.settings
    found = read_source(site.path(settings.data))
    if unknown := sorted(set(settings.classes) - set(found.classes)):
        raise UserError(
            f"site.toml, [classes]: {', '.join(map(repr, unknown))} is no class of {settings.data}; "
            f"it has {', '.join(map(repr, found.classes))}"
        )
    images = [
        replace(image, label=name) for image in found.images if (name := settings.classes.get(image.label, image.label))
    ]
    counts = Counter(image.label for image in images)
    rare = {name for name, number in counts.items() if number < settings.consent.least_images}
    if rare:
        log.warning(
            "kept out for having fewer than %d images: %s", settings.consent.least_images, ", ".join(sorted(rare))
        )
    kept = [image for image in images if image.label not in rare]
    if not kept:
        raise UserError(
            f"{settings.data}: no image is left after [classes] and least-images = {settings.consent.least_images}"
        )
    return kept


def own_images(site: SiteFolder, config: RunConfig, split: str) -> tuple[list[Image], tuple[Problem, ...]]:
    """Return one split of the site's images as a run divided them, or ``all``, and those that cannot be read.

    Raises:
        UserError: there is no such split, or no image in it.
    """
    if split not in (*SPLITS, "all"):
        raise UserError(f"--split {split}: expected {', '.join(SPLITS)} or all")
    chosen, problems = [], []
    for image in site_images(site):
        try:
            key = image.key()
        except OSError as error:
            problems.append(Problem(image.path, str(error.strerror)))
            continue
        if split in ("all", split_of(image, key, config.seed, config.test_fraction, config.validation_fraction)):
            chosen.append(image)
    if not chosen:
        raise UserError(f"the site has no {split} images; try --split all")
    return chosen, tuple(problems)
