"""A node: where a site finds its images and keeps state and results, and what it refuses."""

import logging
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from fedtransfer.client.consent.ledger import SiteLedger
from fedtransfer.client.consent.limits import refuse_costly, watched
from fedtransfer.client.consent.pins import Pins
from fedtransfer.client.consent.refusals import refuse_run
from fedtransfer.client.data import SPLITS, SiteData, prepare_site
from fedtransfer.client.deployment.keys import SiteIdentity, identity_among
from fedtransfer.client.deployment.settings import SETTINGS, SiteFolder
from fedtransfer.common.config.config import RunConfig, Value, read_config
from fedtransfer.common.data.feature_card import FeatureCard
from fedtransfer.common.data.feature_table import tables_of
from fedtransfer.common.data.images import Image, Problem, split_of
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.extraction import Progress
from fedtransfer.common.head.head import save_head
from fedtransfer.common.head.model import Classifier, classifier_of_head, model_of_head
from fedtransfer.common.support.files import write_whole
from fedtransfer.common.support.keys import Identity
from fedtransfer.common.wire.protocol import MOMENTS, Task

log = logging.getLogger(__name__)

PATIENCE = 2.0


@dataclass(frozen=True)
class Node:
    """A node of a simulation: it works on the prepared site of its number, and refuses nothing."""

    data: str  # the site's images: folder, manifest or archive
    state: Path  # folder of the site's state and results
    partition: str = ""  # name of the prepared site, "" for a node with an enrolled name
    least_images: int = 0  # classes with fewer training images are left out
    changed: int = 0  # modification time of the site's settings; a newer one triggers re-preparation
    patience: float | None = None  # seconds until a query that waits for features gets their progress

    @property
    def ledger(self) -> SiteLedger:
        """The record of privacy spent on the site's images; raises as ``SiteLedger.open``."""
        return SiteLedger.open(self.state, durable=False)

    def settings(self, config: RunConfig) -> RunConfig:
        """Return a run's settings as they are at this site; a simulated site changes none."""
        return config

    def refuse(self, config: RunConfig, kind: str) -> None:
        """Raise a ``SiteError`` if the site does not consent; a simulated site always does."""

    def pin(self, run: int, settings: Mapping[str, Value], request: object) -> None:
        """Raise a ``SiteError`` if a run is not what it was at first; a simulated one is."""

    def identity(self, name: str, public_keys: Mapping[str, str]) -> Identity | None:
        """Return the site's identity among the sites that share masks, or None if it has no key.

        The server gives its name, and site → public key (OpenSSH's one-line form). A simulated site
        has none and signs nothing: all sites are one process, with nobody in between.
        """
        return None

    def card(self) -> FeatureCard | None:
        """Return what made the site's ready-made features; a simulation has compared them."""
        return None

    def images(self) -> Sequence[Image]:
        """List the site's images."""
        return read_source(Path(self.data)).images

    def prepare(self, config: RunConfig, progress: Progress | None = None) -> SiteData:
        """Prepare the site's data for a run, as ``prepare_site`` does."""
        return prepare_site(self.images(), config, progress, self.least_images)

    def keep(
        self, task: Task, config: RunConfig, fingerprint: str, run: int, *, personal: bool = False
    ) -> None:
        """Keep the head in ``task``: the result of a run, or the ``personal`` head made from it."""
        self.state.mkdir(parents=True, exist_ok=True)
        path, moments = (
            self.state / ("personal-head.npz" if personal else "head.npz"),
            task.extra.get(MOMENTS),
        )
        # Flushing a head at each of many sites takes longer than their training.
        save_head(path, task.head, task.classes, fingerprint, moments, task.trainable, durable=False)


@dataclass(frozen=True, kw_only=True)
class DeployedNode(Node):
    """The node of a deployed site, whose folder Flower's node config names."""

    site: SiteFolder = field(compare=False)

    def settings(self, config: RunConfig) -> RunConfig:
        """Return a run's settings with the site's paths, threads and strictness."""
        return self.site.apply(config)

    def refuse(self, config: RunConfig, kind: str) -> None:
        """Refuse a message that ``site.toml`` does not allow."""
        refuse_run(self.site, self.ledger, config, kind)

    def pin(self, run: int, settings: Mapping[str, Value], request: object) -> None:
        """Pin a run's settings and classes, or refuse others than those that are pinned."""
        Pins(self.site.pins).hold(run, settings, request)

    @property
    def ledger(self) -> SiteLedger:
        """The record of privacy spent on the site's training images, over all runs."""
        return SiteLedger.open(self.site.folder)

    def identity(self, name: str, public_keys: Mapping[str, str]) -> SiteIdentity:
        """Return the site's identity among those that share masks, as ``identity_among`` does."""
        return identity_among(self.site, name, public_keys)

    def card(self) -> FeatureCard | None:
        """Return what made the site's ready-made features; None if it has images.

        They are in a features file, or in the rows of one that a manifest lists.
        """
        if (card := self.site.card) or not self.data.endswith(".csv"):
            return card
        return next((table.card for table in tables_of(image.path for image in self.images())), None)

    def images(self) -> Sequence[Image]:
        """List the images that the site gives to federations, with the federation's class names."""
        return site_images(self.site)

    def prepare(self, config: RunConfig, progress: Progress | None = None) -> SiteData:
        """Prepare the site's data for a run, unless the run would cost more than the site gives."""
        images, limits = self.images(), self.site.settings.limits
        refuse_costly(self.site, config, images)
        progress = watched(progress or (lambda done, total: None), limits)
        return prepare_site(images, config, progress, self.least_images)

    def keep(
        self, task: Task, config: RunConfig, fingerprint: str, run: int, *, personal: bool = False
    ) -> None:
        """Keep the head in ``task`` with the settings needed to use it."""
        keep_result(self.site.results, task, config, fingerprint, run, personal=personal)


def deployed_node(folder: str) -> DeployedNode:
    """Return the node of the site in ``folder``, with its present settings.

    Raises:
        UserError: its settings are invalid.
    """
    path = Path(folder) / SETTINGS
    return _deployed_node(folder, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=1)
def _deployed_node(folder: str, changed: int) -> DeployedNode:
    site = SiteFolder.open(Path(folder))
    least, data = site.settings.consent.least_images, str(site.path(site.settings.data))
    return DeployedNode(data, site.state, least_images=least, changed=changed, patience=PATIENCE, site=site)


def site_images(site: SiteFolder) -> list[Image]:
    """List the images that a site gives to federations, under the federation's class names.

    Raises:
        UserError: unreadable source, unknown class in ``[classes]``, or no image left.
    """
    settings = site.settings
    source = read_source(site.path(settings.data))
    if unknown := sorted(set(settings.classes) - set(source.classes)):
        raise UserError(
            f"site.toml, [classes]: {', '.join(map(repr, unknown))} not found in {settings.data}, whose "
            f"classes are {', '.join(map(repr, source.classes))}; correct the names"
        )
    names = {image.label: settings.classes.get(image.label, image.label) for image in source.images}
    images = [replace(image, label=names[image.label]) for image in source.images if names[image.label]]
    least, counts = settings.consent.least_images, Counter(image.label for image in images)
    if rare := {name for name, number in counts.items() if number < least}:
        log.warning("classes left out with fewer than %d images: %s", least, ", ".join(sorted(rare)))
    images = [image for image in images if image.label not in rare]
    if not images:
        raise UserError(f"{settings.data}: no image is left after [classes] and least-images = {least}")
    return images


def split_images(site: SiteFolder, config: RunConfig, split: str) -> tuple[list[Image], tuple[Problem, ...]]:
    """Return the images in a split of a run, or in ``all``, and those that cannot be read.

    Raises:
        UserError: the split is unknown or empty.
    """
    if split not in (*SPLITS, "all"):
        raise UserError(f"--split {split}: expected {', '.join(SPLITS)} or all")
    images, problems = [], []
    shares = (config.seed, config.test_fraction, config.validation_fraction)
    for image in site_images(site):
        try:
            key = image.key()
        except OSError as error:
            problems.append(Problem(image.path, str(error.strerror)))
            continue
        if split in ("all", split_of(image, key, *shares)):
            images.append(image)
    if not images:
        raise UserError(f"the site has no {split} images; try --split all")
    return images, tuple(problems)


@dataclass(frozen=True)
class Result:
    """A result of a federation, kept at the site: ``results/TIME-RUN/`` with heads and settings."""

    folder: Path
    config: RunConfig  # as it was at this site
    personal: bool = False  # the personal head that the site made from the run's head

    def path(self, name: str) -> Path:
        """Return the path of one of its files."""
        return self.folder / f"{'personal-' if self.personal else ''}{name}"

    def model(self) -> Path:
        """Return its ``model.keras`` or ``model.onnx``, which is made on first use.

        Raises:
            UserError: see ``model_of_head``.
        """
        return model_of_head(self.path("head.npz"), self.config)

    def copy_model(self, out: Path) -> Path:
        """Copy its model to a file; return that. Raises UserError: the suffix is another."""
        path = self.model()
        if out.suffix != path.suffix:
            raise UserError(f"--out {out}: the model is {path.name}; expected a file name with {path.suffix}")
        shutil.copyfile(path, out)
        if (weights := path.with_name(path.name + ".data")).is_file():  # of a large model in ONNX
            shutil.copyfile(weights, out.with_name(weights.name))
        return out

    def classifier(self) -> Classifier:
        """Return its model, ready to classify. Raises UserError as ``model``."""
        return classifier_of_head(self.path("head.npz"), self.config)


def keep_result(
    results: Path, task: Task, config: RunConfig, fingerprint: str, run: int, *, personal: bool = False
) -> None:
    """Write the head in ``task`` and the run's settings; a second delivery replaces the first."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder = next(results.glob(f"*-{run}"), results / f"{moment}-{run}")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "config.toml", config.to_toml())
    result = Result(folder, config, personal)
    path, moments = result.path("head.npz"), task.extra.get(MOMENTS)
    save_head(path, task.head, task.classes, fingerprint, moments, task.trainable)
    result.path(config.model_file).unlink(missing_ok=True)  # of an earlier head


def newest_result(results: Path, *, personal: bool = False) -> Result:
    """Return the newest result, or the personal head made from it.

    Raises:
        UserError: the site has no result yet, or the newest one has no personal head.
    """
    folders = sorted(path.parent for path in results.glob("*/head.npz"))
    if not folders:
        raise UserError(
            f"{results}: no result yet; a site gets one at the end of each run in which it took part"
        )
    result = Result(folders[-1], read_config(folders[-1] / "config.toml"), personal)
    if not result.path("head.npz").exists():
        raise UserError(
            f"{folders[-1]}: the newest result has no personal head; runs make one with --personal-epochs, "
            "and with --strategy reptile or perfedavg"
        )
    return result
