"""Features drawn by a seed that are to each other as those of real images."""

import numpy as np

from fedtransfer.simulations.audit.leaks import unit_rows


def drawn(counts: np.ndarray, rng: np.random.Generator, d: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Features of length 1, like real ones: cosines in a class about 0.5, between classes 0.3."""
    y = np.repeat(np.arange(len(counts)), counts)
    mean, of_class = (unit_rows(rng.standard_normal((n, d))) for n in (1, len(counts)))
    x = (
        np.sqrt(0.3) * mean
        + np.sqrt(0.2) * of_class[y]
        + np.sqrt(0.5) * unit_rows(rng.standard_normal((len(y), d)))
    )
    return unit_rows(x).astype(np.float32), y
