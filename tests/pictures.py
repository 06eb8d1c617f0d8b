"""Small real images for tests."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (190, 20, 20), "green": (20, 190, 20), "blue": (20, 20, 190)}


def picture(colour: tuple[int, int, int], seed: int, size: tuple[int, int] = (40, 32)) -> Image.Image:
    """A noisy picture in one tone, different for each seed."""
    noise = np.random.default_rng(seed).integers(0, 60, (*size[::-1], 3))
    return Image.fromarray(np.clip(noise + np.array(colour), 0, 255).astype(np.uint8))


def class_folders(folder: Path, seed: int, n: int = 12, name: str = "") -> Path:
    """Make a folder of class folders with ``n`` pictures each, different for each ``seed``."""
    for c, (label, colour) in enumerate(COLOURS.items()):
        (folder / label).mkdir(parents=True)
        for i in range(n):
            picture(colour, 10_000 * seed + 100 * c + i).save(folder / label / f"{name}{i}.png")
    return folder
