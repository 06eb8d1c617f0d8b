"""What one site can do to the choice of the head: three quarters of the say, and no more.

The best head has the lowest loss on the sites' validation images. A site may report any loss for
its images: of a good head a large one, of a bad head none. Of three or more sites, one counts for
at most three times the images, and three times the loss, of all the others together. So one that
lies makes the choice no worse, to the others, than four times the best loss, or a tenth of what
guessing costs above it. Where no site is that much larger, the choice is by the plain mean.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.wire.protocol import Scores

Numbers = NDArray[np.floating[Any]]

MOST = 3.0  # times all the others together
LEAST_SITES = 3
FLOOR = 0.1  # of the loss of guessing: below it a site's loss may be any number of times the others'


def bounded(losses: Numbers, images: Numbers, classes: int) -> tuple[Numbers, Numbers]:
    """Bound each site's part in the choice of a head; the parts as they are if none is too large.

    Args:
        losses: sums of losses, a row a site: (K,), or (K, …) of several heads.
        images: numbers of images (K,).
        classes: C.
    """
    if np.count_nonzero(images) < LEAST_SITES:
        return losses, images
    share = np.minimum(1.0, MOST * (images.sum() - images) / np.maximum(images, 1))
    images, losses = images * share, losses * share.reshape(-1, *[1] * (losses.ndim - 1))
    others = (images.sum() - images).reshape(-1, *[1] * (losses.ndim - 1))
    floor = FLOOR * np.log(classes) * others
    return np.minimum(losses, np.maximum(MOST * (losses.sum(0) - losses), floor)), images


def federated_loss(answers: Iterable[Any]) -> float:
    """Return the mean loss of a head on the sites' validation images, NaN if there are none."""
    scores = [answer.validation for answer in answers if isinstance(answer, Scores)]
    losses, images = bounded(
        np.array([counts.loss for counts in scores]), np.array([counts.total for counts in scores]),
        len(scores[0].images) if scores else 1,
    )  # fmt: skip
    return sum(losses.tolist()) / sum(images.tolist()) if images.any() else float("nan")
