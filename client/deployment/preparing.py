"""``fedtransfer client prepare``: make the features of a site's images, and show the progress."""

from pathlib import Path

from rich.console import Console

from fedtransfer.client.data import prepare_site
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.client.node import site_images
from fedtransfer.common.config.config import resolve_config
from fedtransfer.common.support.terminal import progress_bar
from fedtransfer.common.support.text import counted


def show_preparation(site: SiteFolder, config: Path | None) -> None:
    """Make the features that a run with the settings in ``config`` needs; print what there is.

    Raises:
        UserError: the images, the settings or the network cannot be read.
    """
    settings = site.apply(resolve_config(preset="", file=config, overrides={}))
    with progress_bar(Console(stderr=True), "Features", "images") as progress:
        data = prepare_site(site_images(site), settings, progress, site.settings.consent.least_images)
    for name, (train, validation, test) in data.images_by_class().items():
        print(f"{name}: {train} for training, {validation} for validation, {test} for test")
    if data.unreadable:
        images = counted(data.unreadable, "unreadable image")
        print(f"left out: {images}; fedtransfer client check lists them")
