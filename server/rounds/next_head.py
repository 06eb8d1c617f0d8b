"""One step of the server, as pure arithmetic, for rounds and for audits."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import Arrays
from fedtransfer.server.strategies.state import Contribution, State
from fedtransfer.server.strategies.strategy import Strategy


def next_head(strategy: Strategy, state: State, contributions: Sequence[Contribution], config: RunConfig) -> State:
    """Return the next state; without contributions the state as it is.

    Args:
        strategy: the server's half of the method.
        state: the head that the sites were sent, and what the strategy remembers.
        contributions: what the sites sent, in site order; one total under masks or ``--dp site``.
        config: the run's settings, with the number of sites that train as ``sites``.

    Raises:
        OverflowError: the next state would not be of finite numbers.
        UserError: the strategy is from outside, and makes a head of other shapes or types.
    """
    if not contributions:  # Poisson sampling drew nobody
        return state
    with np.errstate(over="ignore", invalid="ignore"):
        delta = strategy.combine(contributions, config)
        following = strategy.step(state, delta, config)
    _check_shapes(state.head, following.head)
    arrays: list[NDArray[Any]] = [*following.head, *chain.from_iterable(following.slots.values())]
    if not all(np.isfinite(array).all() for array in arrays):
        raise OverflowError("the head would overflow; lower the learning rates, or set --max-update-norm")
    return following


def _check_shapes(before: Arrays, after: Arrays) -> None:
    expected, got = ([(str(array.dtype), array.shape) for array in head] for head in (before, after))
    if got != expected:
        raise UserError(f"strategy: its step returned a head of {got}; expected {expected}, as it was before")
