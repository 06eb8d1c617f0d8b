"""Fit an image to the square that a backbone takes, and resize it.

The result is that of Keras' ``Resizing`` layer, which exported models begin with, to rounding.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Fit = Literal["crop", "pad", "stretch"]
# The rules, as fingerprints have them.
RULES: dict[str, str] = {
    "crop": "centre square of the shorter side, antialiased bilinear resize, RGB 0 to 255",
    "pad": "black bars to a square of the longer side, antialiased bilinear resize, RGB 0 to 255",
    "stretch": "both sides to one length, antialiased bilinear resize, RGB 0 to 255",
}


def resize(images: NDArray[np.uint8], resolution: int, fit: str = "crop") -> NDArray[np.float32]:
    """Fit and resize images of one size, (n, H, W, 3) uint8 → (n, R, R, 3) float32, 0 to 255.

    ``crop`` takes the square in the middle, ``pad`` adds black bars to the shorter side, and
    ``stretch`` gives up the shape. Each image has the same bits alone and among others.
    """
    height, width = images.shape[1:3]
    if fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        images = images[:, top : top + side, left : left + side]
    elif fit == "pad":
        side = max(height, width)
        # As Keras does it: bars of ⌊difference / 2⌋ on both sides.
        bars = [((side - length) // 2,) * 2 for length in (height, width)]
        images = np.pad(images, ((0, 0), *bars, (0, 0)))
    rows = _along(images, 1, resolution)
    return np.ascontiguousarray(_along(rows, 2, resolution), np.float32)


def _along(images: NDArray[np.number], axis: int, length: int) -> NDArray[np.number]:
    """Resize one axis: a sum of few shifted images, each with a weight an output row."""
    if images.shape[axis] == length:
        return images
    places, weights = _taps(images.shape[axis], length)
    shape = [1, 1, 1, 1]
    shape[axis] = length
    total = np.zeros((*images.shape[:axis], length, *images.shape[axis + 1 :]), np.float32)
    for place, weight in zip(places, weights, strict=True):
        total += images.take(place, axis) * weight.reshape(shape)
    return total


@lru_cache(maxsize=256)
def _taps(before: int, after: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the inputs of each output and their weights, (T, after) each.

    The kernel is a triangle over the distance from the output's centre. It is as wide as an input,
    or, if the image gets smaller, as an output; weights inside the image sum to 1.
    """
    one, half = np.float32(1), np.float32(0.5)  # in float32 as TensorFlow computes it, or centres differ
    scale = one / (np.float32(after) / np.float32(before))
    support = max(scale, one)
    centre = (np.arange(after, dtype=np.float32) + half) * scale
    first = np.clip(np.ceil(centre - support - half).astype(np.intp), 0, before - 1)
    last = np.clip(np.floor(centre + support - half).astype(np.intp), 0, before - 1)
    places = first + np.arange((last - first).max() + 1)[:, None]
    distance = np.abs(places.astype(np.float32) + half - centre) * (one / support)
    weights = np.where(places <= last, np.maximum(1 - distance, 0), 0).astype(np.float32)
    return np.minimum(places, before - 1), weights / weights.sum(0)
