"""Sums of features of hostile sites, which admission lets in: with class means of an attack."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.wire.protocol import Sums
from fedtransfer.common.wire.sums import pack_triangle, unpack_triangle
from fedtransfer.simulations.hostility.attacks import Attack

Matrix = NDArray[np.float64]
Means = tuple[Matrix, Matrix]  # of classes (C, d), and their numbers of images (C,)


def altered_sums(
    sums: Mapping[str, Sums], hostile: set[str], attack: Attack, scale: float
) -> dict[str, Sums]:
    """Return the sums that hostile sites send: class means take the place of updates.

    Numbers of images stay as they are: a site has said them when it joined.

    Args:
        sums: site → its sums, of class sums or of a Gram matrix (``common/wire/sums.py``).
        hostile: names of the hostile sites.
        attack, scale: what they do, and the factor on it.
    """
    means = {name: class_means(each) for name, each in sums.items()}
    honest = [means[name] for name in sums if name not in hostile]
    n = sum(images for _, images in honest)
    typical = sum(images[:, None] * mean for mean, images in honest) / np.maximum(n, 1)[:, None]
    rows = np.array([np.where(images[:, None] > 0, mean, typical).ravel() for mean, images in honest])
    altered = {}
    for name in sums.keys() & hostile:
        mean, images = means[name]
        sent = attack.answer(mean.ravel(), rows, scale).reshape(mean.shape)
        sent /= np.maximum(np.linalg.norm(sent, axis=1, keepdims=True), 1)  # as features of length 1 have
        altered[name] = with_means(sums[name], np.where(images[:, None] > 0, sent, 0))
    return altered


def class_means(sums: Sums) -> Means:
    """Return the means of a site's classes, zeros for those that it lacks, and their images."""
    first, second = sums.arrays
    totals, images = (first, second) if first.ndim == 2 else (second[:-1].T, second[-1])
    return totals / np.maximum(images, 1)[:, None].astype(np.float64), images.astype(np.float64)


def with_means(sums: Sums, means: Matrix) -> Sums:
    """Return a site's sums with other class means (C, d), about which images scatter as before.

    They scatter less where features of length 1 could not have these means otherwise.
    """
    before, images = class_means(sums)
    totals = images[:, None] * means
    if sums.arrays[0].ndim == 2:
        return replace(sums, arrays=(totals.astype(np.float32), sums.arrays[1]))
    gram = unpack_triangle(sums.arrays[0])[:-1, :-1]
    within = gram - before.T @ (images[:, None] * before)
    room = max(0.0, float(np.trace(gram) - (totals * means).sum()))
    within *= min(1.0, room / max(float(np.trace(within)), 1e-300))
    z = np.block([
        [within + means.T @ totals, totals.sum(0)[:, None]],
        [totals.sum(0)[None], np.array([[images.sum()]])],
    ])  # fmt: skip
    return replace(sums, arrays=(pack_triangle(z), np.vstack([totals.T, images])))
