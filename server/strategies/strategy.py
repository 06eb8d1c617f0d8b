"""What a strategy is: the server's half of a method, as a record of functions, and one step by it.

A method with rounds of training is a ``Strategy``, a one-shot head a ``OneShotHead``. The functions
are pure: what a strategy remembers is in its ``State``, and so in every checkpoint.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.wire.protocol import Extra, Sums

Delta = tuple[NDArray[np.float64], ...]  # a change of the head, array by array
Numbers = tuple[NDArray[np.floating[Any]], ...]


@dataclass(frozen=True)
class State:
    """What passes from round to round."""

    head: Arrays  # the global head, float32, as it travels
    slots: Mapping[str, Delta]  # further arrays that the server keeps, by name, float64


@dataclass(frozen=True)
class Contribution:
    """What a site sent in a round, or what was made of several sites' updates.

    The weight is n, the site's number of training images, or 1 where all sites count the same; of a
    private sum it is what the sum is divided by.
    """

    total: Numbers  # weight · delta: float32 as a site sends it, float64 for a sum
    weight: float
    control: Arrays = ()  # the change of SCAFFOLD's variate at the site, float32, unweighted

    @property
    def delta(self) -> Delta:
        """The site's own change of the head."""
        return tuple(array / np.float64(self.weight) for array in self.total)


@dataclass(frozen=True)
class Strategy:
    """How the server turns a round's updates into the next head.

    The functions read the run's settings; their ``sites`` is the number of sites that train.

    Example:
        FedAvg, but for a step of one's own:

        >>> from dataclasses import replace
        >>> from fedtransfer.server.strategies.fedavg import FEDAVG
        >>> def half(state, delta, config):
        ...     return FEDAVG.step(state, tuple(d / 2 for d in delta), config)
        >>> cautious = replace(FEDAVG, step=half)

    Attributes:
        start: the first head → the state before the first round.
        combine: what the sites sent, in site order → the combined update, float64: the change of
            the head, array by array, then what else ``step`` needs.
        step: state, combined update → the next state, with its head in float32.
        extra: state → what sites are sent next to the head. They accept SCAFFOLD's variates only.
        sum_only: whether the sum of all updates is enough, which is all that the strategy receives
            with ``--masks`` or ``--dp site``. Read for strategies from outside only; for the others
            their records say it.
    """

    start: Callable[[Arrays, RunConfig], State]
    combine: Callable[[Sequence[Contribution], RunConfig], Delta]
    step: Callable[[State, Delta, RunConfig], State]
    extra: Callable[[State], Extra] = lambda state: {}
    sum_only: bool = False


@dataclass(frozen=True)
class OneShotHead:
    """A head in closed form, of the sums that its method's record names.

    Attributes:
        solve: the sites' sums → λ → head, for the config's λ or a grid of them.
        solve_noisy: noisy sums, and the deviation of the noise on their total → λ and its head;
            None if it does not work under differential privacy.
    """

    solve: Callable[[Sequence[Sums], RunConfig], dict[float, Arrays]]
    solve_noisy: Callable[[Sequence[Sums], RunConfig, float], tuple[float, Arrays]] | None = None


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


def next_head(
    strategy: Strategy, state: State, contributions: Sequence[Contribution], config: RunConfig
) -> State:
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
    expected, got = ([(str(a.dtype), a.shape) for a in head] for head in (state.head, following.head))
    if got != expected:
        raise UserError(f"strategy: its step returned a head of {got}; expected {expected}, as it was before")
    arrays: list[NDArray[Any]] = [*following.head, *chain.from_iterable(following.slots.values())]
    if not all(np.isfinite(array).all() for array in arrays):
        raise OverflowError("the head would overflow; lower the learning rates, or set --max-update-norm")
    return following
