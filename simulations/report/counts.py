"""Matrices of counts, as bubbles or shades and a table: the partition, the confusion matrix."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.data.sources import natural_order
from fedtransfer.simulations.report.blocks import Caption, Figure, Table
from fedtransfer.simulations.report.charts import NAMED
from fedtransfer.simulations.report.reading import Run
from fedtransfer.simulations.report.sentences import caption, sentence, table
from fedtransfer.simulations.report.svg import ACCENT, INK, SHADE, elements, sheet
from fedtransfer.simulations.report.texts import percent, printable

_BUBBLES, _NUMBERED = 400, 150  # most cells that are bubbles, and most that have their numbers in them
_WORST = 20  # confusions in the table
_READABLE = 30  # most classes that are columns of a table


def partition(run: Run) -> Figure:
    """Draw how many images of each class each site has, without test images if they are known."""
    images, with_test = run.images
    sites, classes = list(natural_order(images)), run.summary["classes"]
    counts = np.array([[images[site].get(name, 0) for site in sites] for name in classes])
    totals, classes_a_site = counts.sum(0), (counts > 0).sum(0)
    largest = int(counts.max()), classes[counts.max(1).argmax()], sites[counts.max(0).argmax()]
    shape = len(classes), len(sites), totals.tolist(), classes_a_site.tolist()
    words = caption("partition", with_test, *shape, *largest)
    columns, rows, note = ["site", "all", *(printable(name, 30) for name in classes)], [], ""
    if len(classes) > _READABLE:  # the number of images and classes of a site, and its most frequent ones
        columns = ["site", "all", "classes", "most frequent"]
        note = sentence("tables", "most_frequent_classes", len(classes))
    for site, at_site in zip(sites, counts.T, strict=True):
        cells = [f"{n:,}" for n in at_site]
        if len(classes) > _READABLE:
            top = [c for c in np.argsort(-at_site, kind="stable")[:3] if at_site[c]]
            frequent = ", ".join(f"{printable(classes[c], 30)} {at_site[c]:,}" for c in top)
            cells = [str((at_site > 0).sum()), frequent]
        rows.append([printable(site), f"{at_site.sum():,}", *cells])
    numbers = Table(words.title, columns, rows, note).shortened(where="sites/NAME/images.csv")
    return _matrix_chart(words, counts, {"site": sites, "class": classes}, numbers, by_count=True)


def confusion(run: Run, matrix: NDArray[Any]) -> Figure:
    """Draw what is taken for what: ``matrix`` has a row a true class, a column a predicted one."""
    classes, images = run.summary["classes"], matrix.sum(1)
    recall = np.diag(matrix) / np.maximum(images, 1)
    wrong = sorted(((int(matrix[i, j]), i, j) for i, j in np.argwhere(matrix) if i != j), reverse=True)
    tested = [i for i in range(len(classes)) if images[i]]
    ends = (choose(tested, key=lambda i: recall[i]) for choose in (max, min))
    best, worst = ((classes[i], recall[i]) for i in ends)
    frequent = [(n, classes[i], classes[j]) for n, i, j in wrong[:1]]
    rows = []
    if len(classes) <= _READABLE:
        columns = ["true class", *(f"→ {printable(name, 20)}" for name in classes), "recall"]
        for i, name in enumerate(classes):
            share = percent(recall[i] if images[i] else None)
            rows.append([printable(name), *(f"{n:,}" for n in matrix[i]), share])
        numbers = Table("True class by predicted class", columns, rows, sentence("tables", "confusion"))
    else:
        for n, i, j in wrong[:_WORST]:
            rows.append([printable(classes[i]), printable(classes[j]), f"{n:,}", percent(n / images[i])])
        numbers = table("most_frequent_confusions", rows, len(rows), len(wrong))
    words = caption("confusion", best, worst, run.summary.get("scored_on") == "public-data", frequent)
    return _matrix_chart(words, matrix, {"predicted class": classes, "true class": classes}, numbers, False)


def _matrix_chart(
    words: Caption, counts: NDArray[Any], names: Mapping[str, Sequence[str]], numbers: Table, by_count: bool
) -> Figure:
    """Draw counts (rows, columns): bubbles by the count, or shades by the row's share or the count.

    Args:
        names: what columns and rows are → their names.
        numbers: the counts, or the most important of them.
        by_count: show counts, as bubbles if there are few enough, not shares of rows.
    """
    (r, c), (x, y) = counts.shape, names
    bubbles, longest = by_count and counts.size <= _BUBBLES, max(map(len, names[x]), default=0)
    longest = min(16, longest) if c <= NAMED else 0
    wide = max(r, c) > 14
    width = 7.6 if wide else 5.0
    cell = min(0.42 if wide else 0.34, (width - 1.4) / c, 5.5 / r)
    with sheet(width, 1.1 + max(cell, 0.02) * r + 0.055 * longest * (c > 6)) as (figure, axes):
        if bubbles:
            where = np.argwhere(counts)
            sizes = counts[counts > 0] / max(counts.max(), 1) * (cell * 72 * 0.95) ** 2
            axes.scatter(where[:, 1], where[:, 0], s=sizes, color=ACCENT, alpha=0.75, linewidths=0)
        else:
            _draw_shades(axes, counts, by_count=by_count)
        axes.set(xlim=(-0.5, c - 0.5), ylim=(r - 0.5, -0.5), xlabel=x, ylabel=y)
        axes.grid(visible=bubbles)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(length=0)
        for set_ticks, of_axis in ((axes.set_xticks, names[x]), (axes.set_yticks, names[y])):
            named = of_axis if len(of_axis) <= NAMED else []
            set_ticks(range(len(named)), [printable(name, 16) for name in named])
        if c > 6 or longest > 8:
            axes.tick_params(axis="x", rotation=90 if c > 20 else 45)
            for label in axes.get_xticklabels():
                label.set(ha="center" if c > 20 else "right", rotation_mode="default" if c > 20 else "anchor")
        key, view, body = elements(figure, words.title)
    return Figure(key, "Matrix", words, view, body, numbers, wide=wide)


def _draw_shades(axes: Any, counts: NDArray[Any], *, by_count: bool) -> None:
    share = counts if by_count else counts / np.maximum(counts.sum(1, keepdims=True), 1)
    depth = 0.65 * (share / max(share.max(), 1e-12)) ** 0.7  # so that small shares are seen
    colours = np.concatenate([np.broadcast_to(SHADE, (*counts.shape, 3)), depth[..., None]], axis=2)
    axes.imshow(colours, aspect="auto", interpolation="none")
    size = 6.5 if counts.shape[1] > 8 else 7.5
    for (i, j), count in np.ndenumerate(counts) if counts.size <= _NUMBERED else ():
        if count:
            axes.text(j, i, f"{count:,}", ha="center", va="center", fontsize=size, color=INK)
