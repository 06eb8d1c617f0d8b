"""Augmented views of an image: cropped, sometimes mirrored, with other brightness and contrast.

A view is a fixed function of the image's content and the view's number, so views are stored once
and serve runs with any seed. View 0 is the image itself.
"""

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.images import Image, split_of
from fedtransfer.common.seeds import generator

Views = Callable[[Image, bytes], int]  # an image and its content key → the number of views to extract

RECIPE = 1  # changes whenever views change, so that stored views of the old recipe are not taken for new ones
# Least share of the square, largest width : height, largest change of brightness and contrast.
AREA, ASPECT, LIGHT = 0.6, 4 / 3, 0.2


def no_views(image: Image, key: bytes) -> int:
    """Return 0: extract the image itself only."""
    return 0


def training_views(config: RunConfig) -> Views:
    """Return a function that gives ``config.augment`` for each training image, and 0 for others."""

    def views(image: Image, key: bytes) -> int:
        split = split_of(image, key, config.seed, config.test_fraction, config.validation_fraction)
        return config.augment if split == "train" else 0

    return views if config.augment else no_views


def view_key(key: bytes, number: int) -> bytes:
    """Return the 32 bytes under which a view of the image with content key ``key`` is stored."""
    return hashlib.sha256(key + f" view {number} of recipe {RECIPE}".encode()).digest() if number else key


def view(pixels: NDArray[np.uint8], key: bytes, number: int) -> NDArray[np.uint8]:
    """Return a view of a decoded image, (H, W, 3) uint8 → (S, S, 3), S the shorter side.

    View 0 is the image itself. Others are a rectangle within the middle square, which is what the
    backbone sees of the image. It has 0.6 to 1 times the area of the square and a shape from 3 : 4
    to 4 : 3, and is stretched to the square. Half of the views are mirrored. Brightness and
    contrast change by at most a fifth.
    """
    if not number:
        return pixels
    rng = generator(0, "augmented view", RECIPE, key, number)
    height, width = pixels.shape[:2]
    side = min(height, width)
    area = rng.uniform(AREA, 1)
    bound = np.log(min(ASPECT, 1 / area))  # a longer rectangle of this area would leave the square
    aspect = np.exp(rng.uniform(-bound, bound))
    size = side * np.sqrt(area * np.array([aspect, 1 / aspect]))
    corner = (np.array([width, height]) - side) / 2 + rng.uniform(size=2) * (side - size)
    box = tuple(np.clip([*corner, *(corner + size)], 0, [width, height] * 2).tolist())
    cropped = np.asarray(
        Pillow.fromarray(pixels).resize((side, side), Pillow.Resampling.BILINEAR, box), np.float32
    )
    if rng.uniform() < 0.5:
        cropped = cropped[:, ::-1]
    brightness, contrast = rng.uniform(1 - LIGHT, 1 + LIGHT, 2)
    mean = cropped.mean()
    return np.clip(np.rint(contrast * (cropped - mean) + brightness * mean), 0, 255).astype(np.uint8)
