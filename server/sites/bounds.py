"""Bounds on the counts of a site: what it reported at joining bounds all that it reports later.

Nobody but the site can count its images. A number that it may raise at will would own the mean of a
round, or the choice of the head; one that it reported at joining is the same for the whole run, is
in the log, and is bounded by ``--max-examples``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.head.metrics import LEAST_PROBABILITY, Counts
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Description, ProtocolError, Request
from fedtransfer.common.wire.sums import images_by_class

Images = NDArray[np.int64]  # (C, 3): numbers of images by class, for training, validation and test

SPLITS = ("training", "validation", "test")
UNDECLARED_CLASSES = 1000  # of a site
_LARGEST = np.iinfo(np.int32).max  # of a class: counts travel in this type
_LARGEST_LOSS = -np.log(LEAST_PROBABILITY)  # of an image, in nats
_ROUNDING = 1e-6  # of a sum of losses, relative and absolute


def check_description(description: Description, most: int, *, declared: bool = False) -> None:
    """Check a site's classes and numbers of images at joining.

    Args:
        description: its answer to the query.
        most: the largest number of images in a split, 0 for no limit.
        declared: whether the run declares its classes, and the site has no others.

    Raises:
        ProtocolError: they are impossible, or above the limit.
    """
    classes = len(description.images)
    if not declared and classes > UNDECLARED_CLASSES:  # each widens the head that every site gets
        most_classes = f"expected at most {UNDECLARED_CLASSES} unless the run declares them (--class-names)"
        raise ProtocolError(f"reported {classes} classes, {most_classes}")
    counts = [*description.images.values(), (description.unreadable,)]
    if wrong := [number for numbers in counts for number in numbers if not 0 <= number <= _LARGEST]:
        raise ProtocolError(f"reported {wrong[0]} images of a class, expected 0 to {_LARGEST}")
    for split, numbers in zip(SPLITS, zip(*description.images.values(), strict=True), strict=False):
        if most and sum(numbers) > most:
            raise ProtocolError(f"reported {sum(numbers)} {split} images, above --max-examples {most}")


def check_counts(value: Any, request: Request, images: Images, views: int) -> None:
    """Check an answer's numbers of images by those that the site reported at joining.

    Args:
        value: an answer of any type to ``request``.
        images: the numbers at joining.
        views: rows of features for one training image, which sums are made of.

    Raises:
        ProtocolError: it reports more.
    """
    training, validation, test = images.sum(0)
    if isinstance(value, protocol.Update):
        _check(value.examples, training, "training")
    if isinstance(value, protocol.Scores):
        _check(value.validation.images, images[:, 1], "validation")
        _check(value.test.images, images[:, 2], "test")
    if isinstance(value, protocol.Sums) and isinstance(request, protocol.Gather):
        _check(-(-value.examples // views), training, "training")
        if (by_class := images_by_class(value, request.what)) is not None:
            _check(np.ceil(by_class / views), images[:, 0], "training")
    if isinstance(value, protocol.Tally):
        _check(value.images, validation, "validation")
    if isinstance(value, protocol.Personal):
        _check(value.images, test, "test")


def check_loss(loss: Any, images: int) -> None:
    """Check sums of losses over a number of images.

    Raises:
        ProtocolError: one is no finite number of 0 or more, or beyond what these images can have.
    """
    least, largest = (float(extreme(loss, initial=0.0)) for extreme in (np.min, np.max))
    if not (least >= 0 and np.isfinite(largest)):
        raise ProtocolError(
            f"sent a loss of {largest if least >= 0 else least}, expected a number of 0 or more"
        )
    if largest > (1 + _ROUNDING) * _LARGEST_LOSS * images + _ROUNDING:
        most = f"{_LARGEST_LOSS:.1f} an image"
        raise ProtocolError(f"sent a loss of {largest:g} over {images} images, expected at most {most}")


def check_matrix(matrix: Any, counts: Counts) -> None:
    """Check that a confusion matrix has the counts of its images.

    Raises:
        ProtocolError: it has another shape or type, or contradicts the counts.
    """
    shape = (len(counts.images),) * 2
    if matrix.shape != shape or not np.issubdtype(matrix.dtype, np.integer) or (matrix < 0).any():
        sent = f"sent a confusion matrix of shape {matrix.shape} and type {matrix.dtype}"
        raise ProtocolError(f"{sent}, expected {shape} of counts")
    pairs = (
        (matrix.sum(1), counts.images),
        (matrix.sum(0), counts.predicted),
        (np.diag(matrix), counts.correct),
    )
    # The first condition keeps the sums from wrapping.
    agrees = matrix.max() <= counts.total and all((a == b).all() for a, b in pairs)
    if not agrees:
        raise ProtocolError("sent a confusion matrix and counts that contradict each other")


def norm_of(update: protocol.Update, weighting: str) -> float:
    """Return the Euclidean norm of a site's change of the head."""
    squares = sum(np.square(array, dtype=np.float64).sum() for array in update.total)
    return float(np.sqrt(squares)) / protocol.weight_of(weighting, update.examples)


def _check(reported: Any, joined: Any, split: str) -> None:
    pairs = zip(np.ravel(reported).tolist(), np.ravel(joined).tolist(), strict=True)
    of_class = " of a class" if np.ndim(reported) else ""
    if excess := [pair for pair in pairs if pair[0] > pair[1]]:
        number, former = excess[0]
        raise ProtocolError(f"reported {number:.0f} {split} images{of_class}, and {former} at joining")
