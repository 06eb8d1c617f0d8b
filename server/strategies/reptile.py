"""Reptile.

Nichol et al. 2018, "On First-Order Meta-Learning Algorithms" (arXiv 1803.02999), the batched form:
sites are the tasks; w ← w + ε · mean of (w_k - w) leads to a head from which a few local steps go
far. Every site counts once, whatever its size; ε is the server's learning rate.
"""

from collections.abc import Sequence

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays
from fedtransfer.server.strategies.strategy import Contribution, Delta, State, Strategy, moved


def start(head: Arrays, config: RunConfig) -> State:
    """Begin at ``head``; there is nothing else to remember."""
    return State(head, {})


def combine(contributions: Sequence[Contribution], config: RunConfig) -> Delta:
    """Return the mean of the sites' deltas."""
    deltas = zip(*(contribution.delta for contribution in contributions), strict=True)
    return tuple(np.mean(arrays, axis=0) for arrays in deltas)


def step(state: State, delta: Delta, config: RunConfig) -> State:
    """Make one server step."""
    return State(moved(state.head, delta, config.server_learning_rate), {})


REPTILE = Strategy(start, combine, step)
