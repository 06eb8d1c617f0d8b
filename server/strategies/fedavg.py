"""FedAvg with server momentum.

McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data" (arXiv 1602.05629):
the next head is the mean of the sites' heads, weighted by their numbers of images.

Hsu et al. 2019, "Measuring the Effects of Non-Identical Data Distribution" (arXiv 1909.06335): the server takes the
mean update as a gradient and follows it with momentum β and rate η. With β = 0 and η = 1 that is plain FedAvg.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.head import Arrays


@dataclass(frozen=True)
class State:
    """The head (float32, as it travels) and the server's velocity (float64)."""

    head: Arrays
    velocity: tuple[NDArray[np.float64], ...]


def start(head: Arrays) -> State:
    """Begin at ``head``, at rest."""
    return State(head, tuple(np.zeros(array.shape, np.float64) for array in head))


def step(
    state: State, totals: Sequence[NDArray[np.float64]], examples: int, *, learning_rate: float, momentum: float
) -> State:
    """Make one server step.

    Args:
        state: the state entering the round.
        totals: Σ n_k · delta_k over the sites, array by array, float64.
        examples: Σ n_k.
        learning_rate: η.
        momentum: β.
    """
    velocity = tuple(momentum * v + total / examples for v, total in zip(state.velocity, totals, strict=True))
    head = tuple((array + learning_rate * v).astype(np.float32) for array, v in zip(state.head, velocity, strict=True))
    return State(head, velocity)
