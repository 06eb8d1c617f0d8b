"""The picture of a partition: which site has how many images of which class."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fedtransfer.common.support.pictures import save_heat_map


def plot_partition(
    images: Mapping[str, Mapping[str, int]], classes: tuple[str, ...], path: Path, *, hidden: bool
) -> None:
    """Draw sites by classes, counting training and validation images.

    Args:
        images: site → class → number of images for training and validation.
        classes: the order of the columns.
        path: the PNG file to write.
        hidden: whether sites keep these numbers to themselves; the title then says so.
    """
    counts = np.array([[site.get(name, 0) for name in classes] for site in images.values()])
    title = (
        "Images for training and validation, by site and class"
        + "\n(known to the simulation alone: sites tell nobody)" * hidden
    )
    save_heat_map(path, counts, list(images), classes, title, ("class", "site"))
