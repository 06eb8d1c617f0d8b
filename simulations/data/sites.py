"""The start of a simulated federation: complete settings, images of each site, and manifests."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import BUNDLED, KERAS_BACKBONES, RunConfig
from fedtransfer.common.config.settings.training import ready_made_width
from fedtransfer.common.data.feature_card import card_of
from fedtransfer.common.data.feature_table import absolute
from fedtransfer.common.data.images import Image, Problem
from fedtransfer.common.data.sources import SPLIT_FOLDERS, Source, read_source, write_manifest
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.ready_made import difference
from fedtransfer.common.support.text import some
from fedtransfer.simulations.data.datasets import NAMES, declare_classes, read_sites, resolve_data
from fedtransfer.simulations.data.partition import partition
from fedtransfer.simulations.data.unseen import set_aside

_NAMED = 4  # names in a warning


@dataclass(frozen=True)
class Data:
    """The images of a simulated federation by site, none of them decoded yet."""

    config: RunConfig  # with the number of sites, the classes and absolute paths filled in
    sites: Mapping[str, Sequence[Image]]  # those that take part
    unseen: Mapping[str, Sequence[Image]]  # those held out of training
    problems: tuple[Problem, ...]  # files that cannot be used

    @property
    def everyone(self) -> dict[str, Sequence[Image]]:
        """Site → images, for all sites in name order."""
        return dict(sorted({**self.sites, **self.unseen}.items()))

    @property
    def images(self) -> list[Image]:
        """The images of all sites, one site after the other."""
        return [image for images in self.everyone.values() for image in images]


def load(config: RunConfig) -> Data:
    """List the images of a run's data and divide them among sites.

    Raises:
        UserError: the data are missing or cannot be divided; or the class names cannot be declared.
    """
    config, images_of, problems = sites_of(config)
    sites, unseen = set_aside(images_of, config)
    config = declare_classes(config, images_of)
    config = config.model_copy(update={"sites": len(images_of), **_absolute_paths(config)})
    return Data(config, sites, unseen, problems)


def _choose_backbone(config: RunConfig, sources: Sequence[Source]) -> RunConfig:
    """Return the settings with the backbone of ready-made features, if it is not given.

    The bundled network is recognised by its fingerprint. Others are in the place of the network.

    Raises:
        UserError: sites have features of different networks; or the data do not say what made them.
    """
    cards = {source.card for source in sources if source.card}
    if len({card.backbone for card in cards}) > 1:
        names = "; ".join(sorted(map(str, cards)))
        raise UserError(
            f"{config.data}: its features are of different networks: {names}; all sites need those of one"
        )
    said = card_of(config.backbone)
    if said and said.version and not all(source.card for source in sources):
        raise UserError(
            f"{config.data}: --backbone {config.backbone} names the version of what made ready-made features,"
            " which these data do not say; expected features files"
        )
    if not cards or config.backbone != BUNDLED or "backbone" in config.model_fields_set:
        return config
    card = cards.pop()
    resolution = config.resolution or card.resolution
    bundled = configured_backbone(config.model_copy(update={"resolution": resolution}))
    if not difference(card, bundled):
        return config.model_copy(update={"resolution": resolution})
    return config.model_copy(update={"backbone": card.backbone})


def _absolute_paths(config: RunConfig) -> dict[str, str]:
    """Return the paths of a config as absolute ones, so that it repeats the run from any folder."""
    ready_made = config.backbone if ready_made_width(config.backbone) else BUNDLED
    names = {
        "data": NAMES, "backbone": (BUNDLED, *KERAS_BACKBONES, ready_made), "weights": ("",), "store": ("",),
        "feature_statistics": ("",), "log_json": ("", "-"),
    }  # fmt: skip
    values = {key: str(getattr(config, key)) for key in names}
    paths = {key: Path(value) for key, value in values.items() if value not in names[key]}
    absolute = {key: str(path.expanduser().resolve()) for key, path in paths.items()}
    if config.public_data:
        absolute["public_data"] = str(resolve_data(config.public_data).absolute())
    return absolute


def sites_of(config: RunConfig) -> tuple[RunConfig, dict[str, list[Image]], tuple[Problem, ...]]:
    """Read the data and divide them.

    Returns:
        The settings with the backbone of ready-made features, site → images, and the files that
        cannot be used.

    Raises:
        UserError: the data are missing, or cannot be divided.
    """
    path = resolve_data(config.data)
    if config.partition == "natural":
        sources, problems = read_sites(path)
        config = _choose_backbone(config, [*sources.values()])
        return config, {name: list(source.images) for name, source in sources.items()}, problems
    source = read_source(path)
    config = _choose_backbone(config, [source])
    if len(source.classes) < 2:
        raise UserError(
            f"{path}: one class only ({source.classes[0]}); there is nothing to tell apart. Expected a "
            "folder a class. If each folder is a site with class folders inside, add --partition natural"
        )
    digits = len(str(config.sites - 1))
    parts = partition(source.images, config)
    return config, {f"site-{k:0{digits}}": images for k, images in enumerate(parts)}, source.problems


def write_sites(folder: Path, config: RunConfig, images_of: Mapping[str, Sequence[Image]]) -> dict[str, Path]:
    """Write each site's manifest into a folder; return site → manifest.

    Raises:
        UserError: a run is resumed, and a site would get other images than before.
    """
    manifests = {name: folder / "sites" / name / "images.csv" for name in images_of}
    for name, path in manifests.items():
        if config.resume and path.exists():
            now = [replace(image, path=absolute(image.path)) for image in images_of[name]]
            if list(read_source(path).images) != now:
                raise UserError(
                    f"{config.data}: {name} would get other images than {path} says; the data have changed "
                    "since the run began. Bring them back to what they were, or start a new run"
                )
        else:
            write_manifest(path, images_of[name])
    return manifests


def warn_of_site_folders(config: RunConfig) -> list[str]:
    """Return a warning if the class folders look like sites: each has the same folders inside."""
    path = resolve_data(config.data)
    if config.partition == "natural" or not path.is_dir():
        return []
    folders = [f for f in sorted(path.iterdir()) if f.is_dir() and not f.name.startswith(".")]
    try:
        inside = [{entry.name for entry in os.scandir(folder) if entry.is_dir()} for folder in folders]
    except OSError:  # the reader of images reports a folder that cannot be read
        return []
    shared = sorted(set.intersection(*inside)) if len(folders) > 1 else []
    if len(shared) < 2 or all(folder.name.lower() in SPLIT_FOLDERS for folder in folders):
        return []
    names, classes = some([folder.name for folder in folders], _NAMED), some(shared, _NAMED)
    return [
        f"{path}: its folders ({names}) are taken for classes, but all of them have the same folders inside"
        f" ({classes}); if they are sites with a folder a class, give --partition natural"
    ]
