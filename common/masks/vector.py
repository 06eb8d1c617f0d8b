"""Encode an answer as a vector of whole numbers modulo 2^64, and decode the sum over sites.

The vector holds all numbers of an answer: arrays, counts, n, losses. Only the fields that identify
the answer (round, backbone, class list) travel outside it. Whole numbers stay as they are. Other
numbers become fixed-point numbers with 28 fraction bits, or 20 for losses and for moments of raw
features, whose squares are large. They are rounded up or down at random, so that the mean is exact.

- *No wrap*: a number at one of N sites must be below 2^(59 - ⌈log₂ N⌉) in that scale (``largest``).
  Larger numbers are refused, never clipped. So a sum over all N sites stays below 2^59, and the
  decoded number is the sum.
- *Leftover masks show*: a number with a leftover mask is uniform, and at most one such number in 16
  is as small as a sum. So ten such numbers all pass for sums once in 2^40.
- *Rounding*: a site's number changes by less than 2^-28, so a sum over N sites changes by less than
  N · 2^-28 (``rounding_error``). Counts are exact.
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

PLACES, COARSE = 28, 20  # fraction bits
SUM_BITS = 59  # of 63 bits and a sign
Whole = NDArray[np.int64]
A = TypeVar("A", bound=Answer)

_LOSSES = ("loss", "losses")
_CLEAR = frozenset(field.name for field in fields(Answer))


def places(request: Request) -> int:
    """Return the number of fraction bits in the answer to a request; losses have at most 20."""
    return COARSE if isinstance(request, Gather) and request.what == "moments" else PLACES


def largest(sites: int, places: int = PLACES) -> float:
    """Return the exclusive bound on a site's value so that no sum over ``sites`` overflows."""
    return 2.0 ** (SUM_BITS - math.ceil(math.log2(sites)) - places)


def rounding_error(sites: int, places: int = PLACES) -> float:
    """Return a bound on the rounding error of a sum over ``sites``."""
    return sites * 2.0**-places


def encode(
    answer: Answer, sites: int, rng: np.random.Generator, places: int = PLACES,
    instead: Mapping[str, Sequence[Whole]] | None = None,
) -> Words:  # fmt: skip
    """Return the numbers of a site's answer as a vector, to be summed over ``sites`` sites.

    Args:
        answer, sites: the answer, and N.
        rng: draws the rounding; secret, since it reveals the fractions that are rounded away.
        places: the number of fraction bits.
        instead: field → whole numbers with noise, in place of its arrays, scaled by ``places``.

    Raises:
        SiteError: a number is not finite, or too large for a sum over ``sites``.
    """
    parts: list[Whole] = []
    ready = {name: iter(arrays) for name, arrays in (instead or {}).items()}

    def take(name: str, array: NDArray[Any]) -> NDArray[Any]:
        bits = _bits(name, array, places)
        whole = next(ready[name]) if name in ready else _rounded(array, bits, rng)
        if (
            whole.size
            and not -(bound := int(largest(sites, 0))) < int(whole.min()) <= int(whole.max()) < bound
        ):
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
    """Return the answer that a sum of vectors encodes: int64 for whole numbers, float64 for others.

    ``template`` is an answer of the same shapes and types; its numbers do not matter.

    Raises:
        ValueError: the total has another length, or a number that is too large for a sum: a mask is
            left on it.
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
    """Return the number of numbers in an answer."""
    sizes: list[int] = []

    def count(name: str, array: NDArray[Any]) -> NDArray[Any]:
        sizes.append(array.size)
        return array

    _mapped_answer(answer, count)
    return sum(sizes)


def _bits(name: str, array: NDArray[Any], places: int) -> int:
    return 0 if array.dtype.kind in "iu" else min(places, COARSE) if name in _LOSSES else places


def _mapped_answer(answer: A, change: Callable[[str, NDArray[Any]], NDArray[Any]]) -> A:
    """Return an answer with ``change`` applied to each array and number, in the order of fields."""
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
        f"this site's answer has a number that is not finite, or {largest(sites, bits):.3g} or more, "
        f"too large to be added over {sites} sites under masks; "
        "lower the learning rates, or scale features to length 1 (normalise = true)",
    )
