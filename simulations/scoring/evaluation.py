"""The choice of images for ``fedtransfer evaluate``: never training images by accident."""

from pathlib import Path

from fedtransfer.common.config.config import RunConfig, read_config
from fedtransfer.common.data.images import Image, Problem, split_of
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.text import nearest
from fedtransfer.simulations.data.datasets import read_sites, resolve_data


def choose_images(
    run: Path, data: str, split: str, classes: tuple[str, ...]
) -> tuple[list[Image], str, tuple[Problem, ...]]:
    """Read ``data``, a named data set, folder, manifest or archive, and choose one split of it.

    The own data of the ``run``, a folder, are divided as in it. ``split`` is ``all``, ``train``,
    ``validation`` or ``test``; "" for test if there is one, else all. ``classes`` are the model's.

    Returns:
        The images, their split, and the files that cannot be used.

    Raises:
        UserError: the data have a class that the model does not know, or no image in this split.
    """
    settings = run / "config.toml"
    config = read_config(settings) if settings.is_file() else RunConfig()
    path = resolve_data(data)
    data_of_run = settings.is_file() and resolve_data(config.data).resolve() == path.resolve()
    if data_of_run and config.partition == "natural":
        sites, problems = read_sites(path)
        images = [image for source in sites.values() for image in source.images]
    else:
        source = read_source(path)
        images, problems = list(source.images), source.problems
    if unknown := {image.label for image in images} - set(classes):
        first = min(unknown)
        raise UserError(
            f"{data} has {len(unknown)} classes that the model does not know, such as {first!r};"
            f" {nearest(first, list(classes))}"
        )
    split = split or ("test" if data_of_run or any(image.split == "test" for image in images) else "all")
    if split != "all":
        images = [image for image in images if _split(image, config) == split]
    if not images:
        raise UserError(f"{data} has no {split} images; try --split all")
    return images, split, problems


def _split(image: Image, config: RunConfig) -> str:
    try:
        return split_of(image, image.key(), config.seed, config.test_fraction, config.validation_fraction)
    except OSError:
        return ""
