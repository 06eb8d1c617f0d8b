"""Try a network on two images before anything is built on it."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.errors import UserError


def probe(resolution: int) -> NDArray[np.float32]:
    """Return two unlike images, (2, R, R, 3) float32, to try a network on."""
    images = np.random.default_rng(0).uniform(0, 255, (2, resolution, resolution, 3)).astype(np.float32)
    images[1] = 255 - images[1] * np.linspace(0, 1, resolution, dtype=np.float32)[:, None]
    return images


def check_features(
    compute: Callable[[NDArray[np.float32]], NDArray[np.float32]], name: str, resolution: int
) -> None:
    """Check that the features of two images are finite, and differ; a UserError says why not.

    ``compute`` is a network of two images, (2, R, R, 3) float32 → (2, d) float32.
    """
    try:
        features = compute(probe(resolution))
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"backbone {name}: fails on an image of {resolution} x {resolution} ({reason}); "
            "try another --resolution"
        ) from None
    if not np.isfinite(features).all():
        raise UserError(
            f"backbone {name}: gives features that are NaN or infinite; does --preprocessing fit the file?"
        )
    if np.allclose(features[0], features[1], rtol=1e-6, atol=0):
        raise UserError(
            f"backbone {name}: gives the same features for different images; "
            "does --preprocessing fit the file?"
        )
