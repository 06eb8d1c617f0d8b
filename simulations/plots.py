"""The picture of a partition: which site has how many images of which class."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from common.pictures import save_figure


def plot_partition(
    images: Mapping[str, Mapping[str, tuple[int, int, int]]], classes: tuple[str, ...], path: Path
) -> None:
    """Draw sites by classes as a heat map of training and validation images, with the numbers where they fit.

    Args:
        images: site → class → images for (train, validation, test).
        classes: the order of the columns.
        path: the PNG file to write.
    """
    from matplotlib.figure import Figure

    sites = list(images)
    counts = np.array([[sum(images[site].get(name, (0, 0, 0))[:2]) for name in classes] for site in sites])
    wide, high = min(20.0, 3 + 0.55 * len(classes)), min(20.0, 1.6 + 0.36 * len(sites))
    figure = Figure(figsize=(wide, high), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(counts, cmap="Blues", aspect="auto")
    axes.set_title("Images for training and validation, by site and class")
    if len(classes) <= 60:
        axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    if len(sites) <= 60:
        axes.set_yticks(range(len(sites)), sites)
    if counts.size <= 400:
        for (row, column), value in np.ndenumerate(counts):
            axes.text(
                column,
                row,
                str(value),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if value > counts.max() * 0.6 else "black",
            )
    figure.colorbar(picture, ax=axes)
    save_figure(figure, path)
