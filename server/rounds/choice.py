"""What one site can do to the choice of the head: no more than its share of the images.

The best head has the lowest loss on the sites' validation images. A site may report any loss for
its images: of a good head a large one, of a bad head none. Of three or more sites, an image of one
counts at most as four times the others' mean loss, or as guessing if that is more; and its images
count at most as three times all the others'. So a liar with a share s of the images has no head
chosen whose loss is, to the others, more than s/(1 - s) · max(4 · best loss, ln C) above the best.
Where no site is beyond these bounds, the choice is by the plain mean, to the bit.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.wire.protocol import Scores

Numbers = NDArray[np.floating[Any]]

MOST = 3.0  # times all the others' images together
WORST = 4.0  # times the others' mean loss of an image
LEAST_SITES = 3


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
    by_site = (-1, *[1] * (losses.ndim - 1))
    images, losses = images * share, losses * share.reshape(by_site)
    others = (images.sum() - images).reshape(by_site)
    worst = np.maximum(WORST * (losses.sum(0) - losses) / others, np.log(classes))
    return np.minimum(losses, images.reshape(by_site) * worst), images


def federated_loss(answers: Iterable[Any]) -> float:
    """Return the mean loss of a head on the sites' validation images, NaN if there are none."""
    scores = [answer.validation for answer in answers if isinstance(answer, Scores)]
    losses, images = bounded(
        np.array([counts.loss for counts in scores]), np.array([counts.total for counts in scores]),
        len(scores[0].images) if scores else 1,
    )  # fmt: skip
    return sum(losses.tolist()) / sum(images.tolist()) if images.any() else float("nan")
