"""What strategies work on: the server's state, a site's contribution to a round, and the update made of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.head import Arrays

Delta = tuple[NDArray[np.float64], ...]  # a change of the head, array by array


@dataclass(frozen=True)
class State:
    """What passes from round to round.

    Attributes:
        head: the global head, float32, as it travels.
        slots: the server optimizer's memory by name, float64, in the shapes of the head.
    """

    head: Arrays
    slots: Mapping[str, Delta]


@dataclass(frozen=True)
class Contribution:
    """What a site sent in a round.

    Attributes:
        total: weight · delta, float32.
        weight: n, its number of training images, or 1 where all sites count the same.
    """

    total: Arrays
    weight: int

    @property
    def delta(self) -> Delta:
        """The site's own change of the head."""
        return tuple(array / np.float64(self.weight) for array in self.total)


def zeros(head: Arrays) -> Delta:
    """A delta of nothing."""
    return tuple(np.zeros(array.shape, np.float64) for array in head)


def moved(head: Arrays, delta: Delta, rate: float) -> Arrays:
    """Return the head moved by rate · delta: computed in float64, cast once."""
    return tuple((array + rate * d).astype(np.float32) for array, d in zip(head, delta, strict=True))
