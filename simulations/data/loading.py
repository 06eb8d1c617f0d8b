"""The start of a simulated federation: complete settings, and the images of each site."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedtransfer.common.config.config import BUNDLED, KERAS_BACKBONES, RunConfig
from fedtransfer.common.config.settings.training import ready_made_width
from fedtransfer.common.data.images import Image, Problem
from fedtransfer.simulations.data.datasets import NAMES, declare_classes, resolve_data
from fedtransfer.simulations.data.sites import sites_of
from fedtransfer.simulations.data.unseen import set_aside


@dataclass(frozen=True)
class Data:
    """The images of a simulated federation, none of them decoded yet.

    Attributes:
        config: the settings, with the number of sites, the classes and absolute paths filled in.
        sites: site → images, for the sites that take part.
        unseen: site → images, for the sites held out of training.
        problems: files that cannot be used.
    """

    config: RunConfig
    sites: Mapping[str, Sequence[Image]]
    unseen: Mapping[str, Sequence[Image]]
    problems: tuple[Problem, ...]

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
    images_of, problems = sites_of(config)
    sites, unseen = set_aside(images_of, config)
    config = declare_classes(config, images_of)
    config = config.model_copy(update={"sites": len(images_of), **_absolute_paths(config)})
    return Data(config, sites, unseen, problems)


def _absolute_paths(config: RunConfig) -> dict[str, str]:
    """Return the paths of a config as absolute ones, so that it repeats the run from any folder."""
    names = {
        "data": NAMES,
        "backbone": (BUNDLED, *KERAS_BACKBONES, config.backbone if ready_made_width(config.backbone) else BUNDLED),
        "weights": ("",),
        "feature_statistics": ("",),
        "store": ("",),
        "log_json": ("", "-"),
    }
    paths = {key: str(getattr(config, key)) for key in names if getattr(config, key) not in names[key]}
    public = {"public_data": str(resolve_data(config.public_data).absolute())} if config.public_data else {}
    return public | {key: str(Path(path).expanduser().resolve()) for key, path in paths.items()}
