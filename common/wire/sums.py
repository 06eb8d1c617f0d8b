"""Sums of features over a site's training images: their layout, on which both sides must agree.

With x (n, d) the features, C classes and z = [x; 1]:

======== ==================================================================================
classes  sums of x by class (C, d) float32; images by class (C,) int64
gram     G = Σ z zᵀ, its upper triangle row by row ((d+1)(d+2)/2,) float64;
         B = Σ z yᵀ (d+1, C) float64, y one-hot: sums by class, images by class in the last row
moments  Σ x and Σ x² (2, d) float64
======== ==================================================================================

Under differential privacy of images, x is clipped, each entry has Gaussian noise, and no numbers of
images are sent:

============= =============================================================================
noisy classes sums of x by class (C, d) float32
noisy gram    Σ x xᵀ in the layout of ``fedtransfer.common.privacy.closed_form.gram_vector``
              (d(d+1)/2,) float32; Σ x yᵀ (d, C) float32
============= =============================================================================

All of them add up over sites. Without noise, G and B travel as float64, since ridge regression
depends on small differences of large numbers. Under noise these differences are lost anyway.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.methods import METHODS
from fedtransfer.common.wire.protocol import ProtocolError, Sums

Layout = tuple[tuple[str, tuple[int, ...]], ...]  # type and shape of each array

NOISY_CLASSES, NOISY_GRAM = "noisy classes", "noisy gram"
_LAYOUTS: dict[str, Callable[[int, int], Layout]] = {
    "classes": lambda d, c: (("float32", (c, d)), ("int64", (c,))),
    "gram": lambda d, c: (("float64", ((d + 1) * (d + 2) // 2,)), ("float64", (d + 1, c))),
    "moments": lambda d, c: (("float64", (2, d)),),
    NOISY_CLASSES: lambda d, c: (("float32", (c, d)),),
    NOISY_GRAM: lambda d, c: (("float32", (d * (d + 1) // 2,)), ("float32", (d, c))),
}
NOISY_KINDS = (NOISY_CLASSES, NOISY_GRAM)
KINDS = tuple(kind for kind in _LAYOUTS if kind not in NOISY_KINDS)
_SLACK = 1e-6  # relative difference allowed between numbers that must agree, since they were rounded


def requested_sums(config: RunConfig) -> tuple[str, ...]:
    """Return the kinds of sums that a run requests, in order; a site gives no others."""
    moments = ("moments",) if config.standardise == "federated" else ()
    return (*moments, one_shot_sums(config)) if config.one_shot else moments


def one_shot_sums(config: RunConfig) -> str:
    """Return the kind of sums of a run's one-shot head: noisy ones under differential privacy."""
    kind = METHODS[config.one_shot].sums
    return f"noisy {kind}" if config.private else kind


def layout(kind: str, features: int, classes: int) -> Layout:
    """Return types and shapes of the arrays of ``kind``, for d features and C classes."""
    return _LAYOUTS[kind](features, classes)


def pack_triangle(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the upper triangle of a symmetric matrix (m, m), row by row: (m(m+1)/2,)."""
    return matrix.take(_upper(len(matrix)))


def unpack_triangle(packed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the symmetric matrix (m, m) of an upper triangle from ``pack_triangle``."""
    size = (int(np.sqrt(8 * len(packed) + 1)) - 1) // 2
    matrix, places = np.empty((size, size)), _upper(size)
    matrix.put(places, packed)
    matrix.T.flat[places] = packed
    return matrix


@lru_cache(maxsize=1)
def _upper(size: int) -> NDArray[np.intp]:
    """Return the upper triangle's places in a flat matrix, row by row."""
    places = np.flatnonzero(~np.tri(size, k=-1, dtype=np.bool_))
    places.flags.writeable = False  # all threads share it
    return places


def add_square(packed: NDArray[np.float64], z: NDArray[np.float64], factor: float = 1.0) -> None:
    """Add factor · z zᵀ, of a vector (m,), to a packed triangle, without making the matrix.

    The upper triangle by rows is the lower one by columns, as BLAS packs it.
    """
    from scipy.linalg.blas import dspr

    dspr(len(z), factor, z, packed, lower=1, overwrite_ap=1)


def check_sums(sums: Sums, kind: str, features: int, classes: int, unit: bool = False) -> None:
    """Check that a site's sums are possible: sums of ``kind`` over ``sums.examples`` images.

    Noisy sums may have any values, so only their layout is checked, and that they are finite.

    Args:
        sums: the site's answer.
        kind: the kind of sums in the request, in ``KINDS`` or ``NOISY_KINDS``.
        features, classes: d and C.
        unit: whether features have length 1, so that sums are bounded by numbers of images.

    Raises:
        ProtocolError: they are impossible; the text says why.
    """
    received = tuple((str(array.dtype), array.shape) for array in sums.arrays)
    expected = layout(kind, features, classes)
    if received != expected:
        raise ProtocolError(f"sent sums {received}, expected {expected}")
    if not all(np.isfinite(array).all() for array in sums.arrays):
        raise ProtocolError("sent sums with NaN or infinite values")
    check_numbers(sums, kind)
    if kind == "classes":
        _check_classes(*sums.arrays, unit=unit)
    elif kind == "gram":
        _check_gram(sums.examples, *sums.arrays, unit=unit)
    elif kind == "moments":
        _check_moments(sums.examples, *sums.arrays[0])


def check_numbers(sums: Sums, kind: str) -> None:
    """Check numbers of images by class, if the sums have them; totals under masks are exact too.

    Raises:
        ProtocolError: they do not add up to ``sums.examples``.
    """
    images = images_by_class(sums, kind)
    if images is None:
        return
    # As Python's numbers, which have no largest: the sum of 64-bit ones may wrap to any other.
    whole = (images >= 0).all() and (images == np.floor(images)).all()
    if not whole or sum(map(int, images)) != sums.examples:
        raise ProtocolError(
            f"sent numbers of images by class that do not add up to its {sums.examples} training images"
        )


def images_by_class(sums: Sums, kind: str) -> NDArray[Any] | None:
    """Return the numbers of images by class, (C,), in sums of ``kind``; None if it has none."""
    if kind == "classes":
        return sums.arrays[1]
    return sums.arrays[1][-1] if kind == "gram" else None


def _check_classes(totals: NDArray[Any], images: NDArray[Any], *, unit: bool) -> None:
    """Check sums by class, (C, d) and (C,)."""
    if totals[images == 0].any():
        raise ProtocolError("sent sums of a class of which it has no images")
    if unit and (np.linalg.norm(totals.astype(np.float64), axis=1) > (1 + _SLACK) * images + _SLACK).any():
        raise ProtocolError("sent sums of a class that its number of features of length 1 cannot have")


def _check_gram(
    examples: int, packed: NDArray[np.float64], by_class: NDArray[np.float64], *, unit: bool
) -> None:
    """Check G: its border, which B implies, and the rest by the Cauchy-Schwarz inequality."""
    _check_classes(by_class[:-1].T, by_class[-1], unit=unit)
    lengths = np.arange(len(by_class), 0, -1)
    ends = np.cumsum(lengths) - 1  # of the rows of the triangle
    squares, totals = packed[ends - lengths + 1], packed[ends]
    _check_moments(examples, totals, squares)
    expected = np.append(by_class[:-1].sum(1), examples)
    if (np.abs(totals - expected) > _SLACK * _bound(examples, squares)).any():
        raise ProtocolError("sent a Gram matrix and sums by class that contradict each other")
    sizes = np.sqrt(squares)
    most = np.full(len(packed), np.finfo(np.float64).tiny)
    add_square(most, sizes, 1 + _SLACK)  # |G_ij| ≤ √(G_ii G_jj)
    if (np.abs(packed) > most).any():
        raise ProtocolError("sent a Gram matrix that no features have")
    if unit and squares[:-1].sum() > (1 + _SLACK) * examples:
        raise ProtocolError("sent a Gram matrix that its number of features of length 1 cannot have")


def _check_moments(examples: int, totals: NDArray[np.float64], squares: NDArray[np.float64]) -> None:
    """Check Σ x and Σ x² by the Cauchy-Schwarz inequality."""
    if (squares < 0).any() or (np.abs(totals) > (1 + _SLACK) * _bound(examples, squares)).any():
        raise ProtocolError(f"sent sums and sums of squares that {examples} images cannot have")


def _bound(examples: int, squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return √(n Σ x²), the upper bound on |Σ x|."""
    return np.sqrt(squares) * np.sqrt(examples)
