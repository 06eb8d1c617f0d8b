"""Matrices of counts, as bubbles or shades and a table: the partition, the confusion matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.data.sources import natural_order
from fedtransfer.simulations.report.blocks import Caption, Figure, Table, percent, printable
from fedtransfer.simulations.report.charts import NAMED
from fedtransfer.simulations.report.reading import Run
from fedtransfer.simulations.report.sentences import caption, sentence
from fedtransfer.simulations.report.svg import ACCENT, INK, SHADE, elements, sheet

_BUBBLES, _NUMBERED = 400, 150  # most cells that are bubbles, and most that have their numbers in them
_WORST = 20  # confusions in the table
_READABLE = 30  # most classes that are columns of a table


@dataclass(frozen=True)
class Matrix:
    """Counts (rows, columns), their names, and what columns and rows are."""

    counts: NDArray[Any]
    rows: Sequence[str]
    columns: Sequence[str]
    labels: tuple[str, str]


def partition(run: Run) -> Figure:
    """Draw how many images of each class each site has, without test images if they are known."""
    images, with_test = run.images
    sites, classes = list(natural_order(images)), list(run.classes)
    counts = np.array([[images[site].get(name, 0) for site in sites] for name in classes])
    totals, classes_a_site = counts.sum(0), (counts > 0).sum(0)
    words = caption(
        "partition",
        with_test,
        classes=len(classes),
        sites=len(sites),
        images=totals.tolist(),
        classes_a_site=classes_a_site.tolist(),
        largest=int(counts.max()),
        largest_class=classes[int(counts.max(1).argmax())],
        largest_site=sites[int(counts.max(0).argmax())],
    )
    rows = tuple((printable(site), f"{totals[i]:,}", *(f"{n:,}" for n in counts[:, i])) for i, site in enumerate(sites))
    columns = ("site", "all", *(printable(name, 30) for name in classes))
    note = ""
    if len(classes) > _READABLE:  # the number of images and classes of a site, and its most frequent ones
        columns = ("site", "all", "classes", "most frequent")
        tops = [np.argsort(-counts[:, i], kind="stable")[:3] for i in range(len(sites))]
        frequent = [
            ", ".join(f"{printable(classes[c], 30)} {counts[c, i]:,}" for c in top if counts[c, i])
            for i, top in enumerate(tops)
        ]
        rows = tuple(
            (printable(site), f"{totals[i]:,}", str(classes_a_site[i]), frequent[i]) for i, site in enumerate(sites)
        )
        note = sentence("tables", "most_frequent_classes", len(classes))
    table = Table(words.title, columns, rows, note).shortened(where="sites/NAME/images.csv")
    return _matrix_chart(words, Matrix(counts, classes, sites, ("site", "class")), table, by_count=True)


def confusion(run: Run, matrix: NDArray[Any]) -> Figure:
    """Draw what is taken for what: ``matrix`` has a row a true class and a column a predicted one."""
    classes, images = run.classes, matrix.sum(1)
    recall = np.diag(matrix) / np.maximum(images, 1)
    wrong = [(int(matrix[i, j]), i, j) for i, j in np.argwhere(matrix) if i != j]
    wrong.sort(reverse=True)
    tested = [i for i in range(len(classes)) if images[i]]
    best, worst = (
        (classes[i], recall[i]) for i in (max(tested, key=recall.__getitem__), min(tested, key=recall.__getitem__))
    )
    frequent = (wrong[0][0], classes[wrong[0][1]], classes[wrong[0][2]]) if wrong else None
    public = run.summary.get("scored_on") == "public-data"
    rows: tuple[tuple[str, ...], ...]
    if len(classes) <= _READABLE:
        columns = ("true class", *(f"→ {printable(name, 20)}" for name in classes), "recall")
        rows = tuple(
            (printable(name), *(f"{n:,}" for n in matrix[i]), percent(recall[i] if images[i] else None))
            for i, name in enumerate(classes)
        )
        note = sentence("tables", "confusion")
    else:
        columns = ("true class", "taken for", "images", "share of the class")
        rows = tuple(
            (printable(classes[i]), printable(classes[j]), f"{n:,}", percent(n / images[i]))
            for n, i, j in wrong[:_WORST]
        )
        note = sentence("tables", "most_frequent_confusions", len(rows), len(wrong))
    table = Table("True class by predicted class", columns, rows, note)
    words = caption("confusion", best, worst, public, frequent)
    return _matrix_chart(words, Matrix(matrix, classes, classes, ("predicted class", "true class")), table)


def _matrix_chart(words: Caption, matrix: Matrix, table: Table, *, by_count: bool = False) -> Figure:
    """Draw a matrix: bubbles whose area is the count, or shades by the row's share or the count.

    Args:
        words: the caption.
        matrix: what is drawn.
        table: the numbers, or the most important of them.
        by_count: show counts, as bubbles if there are few enough, not shares of rows.
    """
    counts, (r, c) = matrix.counts, matrix.counts.shape
    bubbles = by_count and counts.size <= _BUBBLES
    wide = max(r, c) > 14
    width = 7.6 if wide else 5.0
    cell = min(0.42 if wide else 0.34, (width - 1.4) / c, 5.5 / r)
    with sheet(width, 1.1 + max(cell, 0.02) * r + 0.055 * _longest(matrix.columns) * (c > 6)) as (figure, axes):
        if bubbles:
            _draw_bubbles(axes, counts, cell)
        else:
            _draw_shades(axes, counts, by_count=by_count)
        axes.set(xlim=(-0.5, c - 0.5), ylim=(r - 0.5, -0.5), xlabel=matrix.labels[0], ylabel=matrix.labels[1])
        axes.grid(visible=bubbles)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(length=0)
        for set_ticks, names in ((axes.set_xticks, matrix.columns), (axes.set_yticks, matrix.rows)):
            named = names if len(names) <= NAMED else []
            set_ticks(range(len(named)), [printable(name, 16) for name in named])
        if c > 6 or _longest(matrix.columns) > 8:
            axes.tick_params(axis="x", rotation=90 if c > 20 else 45)
            for label in axes.get_xticklabels():
                label.set(ha="center" if c > 20 else "right", rotation_mode="default" if c > 20 else "anchor")
        key, view, body = elements(figure, words.title)
    return Figure(key, "Matrix", words, view, body, table, wide=wide)


def _draw_bubbles(axes: Any, counts: NDArray[Any], cell: float) -> None:
    where = np.argwhere(counts)
    sizes = counts[counts > 0] / max(counts.max(), 1) * (cell * 72 * 0.95) ** 2
    axes.scatter(where[:, 1], where[:, 0], s=sizes, color=ACCENT, alpha=0.75, linewidths=0)


def _draw_shades(axes: Any, counts: NDArray[Any], *, by_count: bool) -> None:
    share = counts if by_count else counts / np.maximum(counts.sum(1, keepdims=True), 1)
    depth = 0.65 * (share / max(share.max(), 1e-12)) ** 0.7  # so that small shares are seen among many classes
    colours = np.concatenate([np.broadcast_to(SHADE, (*counts.shape, 3)), depth[..., None]], axis=2)
    axes.imshow(colours, aspect="auto", interpolation="none")
    size = 6.5 if counts.shape[1] > 8 else 7.5
    for (i, j), count in np.ndenumerate(counts) if counts.size <= _NUMBERED else ():
        if count:
            axes.text(j, i, f"{count:,}", ha="center", va="center", fontsize=size, color=INK)


def _longest(names: Sequence[str]) -> int:
    return min(16, max(map(len, names), default=0)) if len(names) <= NAMED else 0
