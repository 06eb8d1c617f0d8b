"""An answer as a vector of whole numbers modulo 2^64, which adds up, and back from the sum.

All numbers of an answer are in it: arrays, counts, n, losses; only what says which answer it is (round, backbone, class
list) travels beside it. Whole numbers stay as they are; others get a fixed point with 28 binary places (losses, and
moments of raw features, whose squares are large: 20) and are rounded at random, up or down, so that the mean is right.

- *No wrap*: a number at one of N sites must be below 2^(59 - ⌈log₂ N⌉) in that scale (``largest``); what is beyond is
  refused, never clipped. So a sum over all N sites stays below 2^59, and what is read from it is the sum.
- *Leftover masks show*: a number that a mask is left on is uniform, and one in 16 at most is as small as a sum; so ten such
  numbers all pass for sums once in 2^40.
- *Rounding*: a site's number moves by less than 2^-28, so a sum over N sites by less than N · 2^-28
  (``rounding_error``). Counts are exact.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.errors import SiteError
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.masks.secrecy import Words
from fedtransfer.common.wire.protocol import Answer, Gather, Request

PLACES, COARSE = 28, 20  # binary places
SUM_BITS = 59  # of the 63 beside the sign
Whole = NDArray[np.int64]
A = TypeVar("A", bound=Answer)

_LOSSES = ("loss", "losses")
_CLEAR = frozenset(field.name for field in fields(Answer))


def places(request: Request) -> int:
    """Return the binary places of an answer to a request; its losses have 20 at most."""
    return COARSE if isinstance(request, Gather) and request.what == "moments" else PLACES


def largest(sites: int, places: int = PLACES) -> float:
    """Return what a number at one of so many sites must be smaller than."""
    return 2.0 ** (SUM_BITS - math.ceil(math.log2(sites)) - places)


def rounding_error(sites: int, places: int = PLACES) -> float:
    """Return what the sum over so many sites is nearer to the true one than."""
    return sites * 2.0**-places


def encode(
    answer: Answer, sites: int, rng: np.random.Generator, places: int = PLACES,
    instead: Mapping[str, Sequence[Whole]] | None = None,
) -> Words:  # fmt: skip
    """Return an answer's numbers as a vector.

    Args:
        answer: of a site.
        sites: N, over which vectors are to be added.
        rng: what rounds; secret, since what is rounded down is learned from it otherwise.
        places: binary places.
        instead: field → whole numbers, in the scale of ``places``, that stand for its arrays: those that were noised.

    Raises:
        SiteError: a number is not finite, or too large for a sum over so many sites.
    """
    parts: list[Whole] = []
    ready = {name: iter(arrays) for name, arrays in (instead or {}).items()}

    def take(name: str, array: NDArray[Any]) -> NDArray[Any]:
        bits = _bits(name, array, places)
        whole = next(ready[name]) if name in ready else _rounded(array, bits, rng)
        if whole.size and not -(bound := int(largest(sites, 0))) < int(whole.min()) <= int(whole.max()) < bound:
            raise _beyond(sites, bits)
        parts.append(whole.ravel())
        return array

    def _rounded(array: NDArray[Any], bits: int, rng: np.random.Generator) -> Whole:
        if array.dtype.kind in "iu":
            return array.astype(np.int64)
        scaled = array.astype(np.float64) * 2.0**bits
        if not (np.abs(scaled) < largest(sites, 0)).all():  # NaN as well
            raise _beyond(sites, bits)
        down = np.floor(scaled)
        whole: Whole = down.astype(np.int64) + (rng.random(array.shape) < scaled - down)
        return whole

    _mapped_answer(answer, take)
    return np.concatenate(parts).view(np.uint64)


def decode(total: Words, template: A, sites: int, places: int = PLACES) -> A:
    """Read from the sum of vectors the one answer that stands for all these sites.

    Args:
        total: modulo 2^64.
        template: an answer of the same shapes and types; what its numbers are does not matter.
        sites: how many vectors were added.
        places: binary places.

    Returns:
        The template with the sums: int64 for whole numbers, float64 for others.

    Raises:
        ValueError: it has another length, or holds what no sum of so many vectors is: a mask is left on it.
    """
    whole = total.view(np.int64)
    if len(whole) != (expected := length(template)):
        raise ValueError(f"a total of {len(whole)} numbers, expected {expected}")
    most = int(largest(sites, 0)) - 1
    if whole.size and not -sites * most <= int(whole.min()) <= int(whole.max()) <= sites * most:
        raise ValueError("a total that no vectors of the sites add up to")
    at = 0

    def put(name: str, array: NDArray[Any]) -> NDArray[Any]:
        nonlocal at
        part, at = whole[at : at + array.size].reshape(array.shape), at + array.size
        bits = _bits(name, array, places)
        return part.copy() if array.dtype.kind in "iu" else part / 2.0**bits

    return _mapped_answer(template, put)


def length(answer: Answer) -> int:
    """Return how many numbers an answer has."""
    sizes: list[int] = []

    def count(name: str, array: NDArray[Any]) -> NDArray[Any]:
        sizes.append(array.size)
        return array

    _mapped_answer(answer, count)
    return sum(sizes)


def _bits(name: str, array: NDArray[Any], places: int) -> int:
    return 0 if array.dtype.kind in "iu" else min(places, COARSE) if name in _LOSSES else places


def _mapped_answer(answer: A, change: Callable[[str, NDArray[Any]], NDArray[Any]]) -> A:
    """Return an answer with each of its arrays and numbers changed, in the order of its fields."""
    names = [field.name for field in fields(answer) if field.name not in _CLEAR]
    return replace(answer, **{name: _mapped(name, getattr(answer, name), change) for name in names})


def _mapped(name: str, value: Any, change: Callable[[str, NDArray[Any]], NDArray[Any]]) -> Any:
    if isinstance(value, Counts):
        return Counts(*(_mapped(field.name, getattr(value, field.name), change) for field in fields(Counts)))
    if isinstance(value, Mapping):
        return {key: _mapped(name, value[key], change) for key in sorted(value)}
    if isinstance(value, tuple):
        return tuple(_mapped(name, each, change) for each in value)
    if isinstance(value, np.ndarray):
        return change(name, value)
    return change(name, np.array(value)).item()


def _beyond(sites: int, bits: int) -> SiteError:
    return SiteError(
        "beyond-bound",
        f"this site's answer has a number that is not finite, or {largest(sites, bits):.3g} or more, too large to be added "
        f"over {sites} sites under masks; lower the learning rates, or scale features to length 1 (normalise = true)",
    )
