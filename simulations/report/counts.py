"""Matrices of counts: who has what, and what is taken for what, as bubbles or shades with the table of their numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.data.sources import natural_order
from fedtransfer.common.support.text import counted
from fedtransfer.simulations.report.blocks import Figure, Table, percent, shown, span
from fedtransfer.simulations.report.charts import NAMED
from fedtransfer.simulations.report.reading import Run
from fedtransfer.simulations.report.svg import ACCENT, INK, SHADE, elements, sheet

_BUBBLES, _NUMBERED = 400, 150  # at most so many cells are bubbles, and have their numbers written in them
_WORST = 20  # confusions told


def partition(run: Run) -> Figure:
    """Draw how many images of each class each site has, test images aside where they are known apart."""
    images, with_test = run.images
    sites, classes = list(natural_order(images)), list(run.classes)
    counts = np.array([[images[site].get(name, 0) for site in sites] for name in classes])
    totals, held = counts.sum(0), (counts > 0).sum(0)
    what = "Images" if with_test else "Images for training and validation"
    images_of_one, classes_of_one = (
        span(f"{totals.min():,}", f"{totals.max():,}"),
        span(str(held.min()), str(held.max())),
    )
    most = f"{shown(classes[int(counts.max(1).argmax())], 30)} at {shown(sites[int(counts.max(0).argmax())], 30)}"
    description = (
        f"{counted(len(classes), 'class', 'classes')} by {counted(len(sites), 'site')}. A site has {images_of_one} images "
        "of "
        f"{classes_of_one} of the classes. The largest number, {counts.max():,}, is {most}."
    )
    rows = tuple((shown(site), f"{totals[i]:,}", *(f"{n:,}" for n in counts[:, i])) for i, site in enumerate(sites))
    columns = ("site", "all", *(shown(name, 30) for name in classes))
    note = ""
    if len(classes) > 30:  # a table for reading: how many images and classes a site has, and its most frequent ones
        columns = ("site", "all", "classes", "most frequent")
        tops = [np.argsort(-counts[:, i], kind="stable")[:3] for i in range(len(sites))]
        rows = tuple(
            (
                shown(site),
                f"{totals[i]:,}",
                str((counts[:, i] > 0).sum()),
                ", ".join(f"{shown(classes[c], 30)} {counts[c, i]:,}" for c in tops[i] if counts[c, i]),
            )
            for i, site in enumerate(sites)
        )
        note = f"The three most frequent of {len(classes)} classes are named."
    table = Table(f"{what}, by site and class", columns, rows, note).shortened(where="sites/NAME/images.csv")
    return _matrix_chart(
        f"{what}, by site and class", description, counts, classes, sites, ("site", "class"), table, by_count=True
    )


def confusion(run: Run, matrix: NDArray[Any]) -> Figure:
    """Draw what is taken for what: ``matrix`` has a row a true class and a column a predicted one."""
    classes, images = run.classes, matrix.sum(1)
    right = np.diag(matrix) / np.maximum(images, 1)
    wrong = [(int(matrix[i, j]), i, j) for i, j in np.argwhere(matrix) if i != j]
    wrong.sort(reverse=True)
    tested = [i for i in range(len(classes)) if images[i]]
    best, worst = max(tested, key=lambda i: right[i]), min(tested, key=lambda i: right[i])
    description = (
        "A row is a true class, shaded by the share that was taken for each. Recall is highest for "
        f"{shown(classes[best], 30)} ({percent(right[best])}) and lowest for {shown(classes[worst], 30)} "
        f"({percent(right[worst])})."
    )
    if run.summary.get("scored_on") == "public-data":
        description += " On public images at the server."
    if wrong:
        description += (
            f" Most frequent confusion: {wrong[0][0]:,} × {shown(classes[wrong[0][1]], 30)} taken for "
            f"{shown(classes[wrong[0][2]], 30)}."
        )
    rows: tuple[tuple[str, ...], ...]
    if len(classes) <= 30:
        columns = ("true class", *(f"→ {shown(name, 20)}" for name in classes), "recall")
        rows = tuple(
            (shown(name), *(f"{n:,}" for n in matrix[i]), percent(right[i] if images[i] else None))
            for i, name in enumerate(classes)
        )
        note = "A row is a true class, a column what it was taken for."
    else:
        columns = ("true class", "taken for", "images", "share of the class")
        rows = tuple(
            (shown(classes[i]), shown(classes[j]), f"{n:,}", percent(n / images[i])) for n, i, j in wrong[:_WORST]
        )
        note = f"The {len(rows)} most frequent confusions of {len(wrong):,}; the matrix is in summary.json."
    table = Table("True class by predicted class", columns, rows, note)
    return _matrix_chart(
        "Confusion matrix", description, matrix, classes, classes, ("predicted class", "true class"), table
    )


def _matrix_chart(
    title: str, description: str, counts: NDArray[Any], rows: Sequence[str], columns: Sequence[str],
    labels: tuple[str, str], table: Table, *, by_count: bool = False,
) -> Figure:  # fmt: skip
    """Draw a matrix of counts: bubbles whose area is the count, or shades by the share of the row or the count.

    Args:
        counts: (rows, columns).
        labels: what the columns and what the rows are.
        table: the numbers, or the most telling of them.
        by_count: show counts, as bubbles if there are few enough, not shares of rows.
    """
    r, c = counts.shape
    bubbles = by_count and counts.size <= _BUBBLES
    wide = max(r, c) > 14
    width = 7.6 if wide else 5.0
    cell = min(0.42 if wide else 0.34, (width - 1.4) / c, 5.5 / r)
    with sheet(width, 1.1 + max(cell, 0.02) * r + 0.055 * _longest(columns) * (c > 6)) as (figure, axes):
        if bubbles:
            where = np.argwhere(counts)
            sizes = counts[counts > 0] / max(counts.max(), 1) * (cell * 72 * 0.95) ** 2
            axes.scatter(where[:, 1], where[:, 0], s=sizes, color=ACCENT, alpha=0.75, linewidths=0)
        else:
            share = counts if by_count else counts / np.maximum(counts.sum(1, keepdims=True), 1)
            depth = 0.65 * (share / max(share.max(), 1e-12)) ** 0.7  # so that small shares are seen among many classes
            shade = np.concatenate([np.broadcast_to(SHADE, (r, c, 3)), depth[..., None]], axis=2)
            axes.imshow(shade, aspect="auto", interpolation="none")
            if counts.size <= _NUMBERED:
                for (i, j), count in np.ndenumerate(counts):
                    if count:
                        axes.text(
                            j, i, f"{count:,}", ha="center", va="center", fontsize=6.5 if c > 8 else 7.5, color=INK
                        )
        axes.set(xlim=(-0.5, c - 0.5), ylim=(r - 0.5, -0.5), xlabel=labels[0], ylabel=labels[1])
        axes.grid(visible=bubbles)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xticks(range(c) if c <= NAMED else [], [shown(name, 16) for name in columns] if c <= NAMED else [])
        axes.set_yticks(range(r) if r <= NAMED else [], [shown(name, 16) for name in rows] if r <= NAMED else [])
        if c > 6 or _longest(columns) > 8:
            axes.tick_params(axis="x", rotation=90 if c > 20 else 45)
            for label in axes.get_xticklabels():
                label.set(ha="center" if c > 20 else "right", rotation_mode="default" if c > 20 else "anchor")
        key, view, body = elements(figure, title)
    return Figure(key, "Matrix", title, description, view, body, table, wide=wide)


def _longest(names: Sequence[str]) -> int:
    return min(16, max(map(len, names), default=0)) if len(names) <= NAMED else 0
