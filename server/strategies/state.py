"""What strategies work on: the server's state, a site's contribution to a round, and the update made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.head.head import Arrays

Delta = tuple[NDArray[np.float64], ...]  # a change of the head, array by array
Numbers = tuple[NDArray[np.floating[Any]], ...]


@dataclass(frozen=True)
class State:
    """What passes from round to round.

    Attributes:
        head: the global head, float32, as it travels.
        slots: further arrays that the server keeps, by name, float64.
    """

    head: Arrays
    slots: Mapping[str, Delta]


@dataclass(frozen=True)
class Contribution:
    """What a site sent in a round, or what was made of several sites' updates.

    Attributes:
        total: weight · delta: float32 as a site sends it, float64 for a sum.
        weight: n, its number of training images, or 1 where all sites count the same; of a private sum what it is
            divided by.
        control: the change of SCAFFOLD's variate at the site, float32, unweighted.
    """

    total: Numbers
    weight: float
    control: Arrays = ()

    @property
    def delta(self) -> Delta:
        """The site's own change of the head."""
        return tuple(array / np.float64(self.weight) for array in self.total)


def zeros(head: Arrays) -> Delta:
    """A delta of nothing."""
    return tuple(np.zeros(array.shape, np.float64) for array in head)


def summed(parts: Sequence[Numbers]) -> Delta:
    """Return the sum of several sites' arrays: in float64, in the order given."""
    totals = zeros(parts[0])
    for arrays in parts:
        for total, array in zip(totals, arrays, strict=True):
            total += array
    return totals


def moved(head: Arrays, delta: Delta, rate: float) -> Arrays:
    """Return the head moved by rate · delta: computed in float64, cast once."""
    return tuple((array + rate * d).astype(np.float32) for array, d in zip(head, delta, strict=True))
