"""What a strategy is: the server's half of a method, as a record of functions.

A method with rounds of training is a ``Strategy``, a one-shot head a ``OneShotHead``. The functions
are pure: what a strategy remembers is in its ``State``, and so in every checkpoint.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.wire.protocol import Extra, Sums
from fedtransfer.server.strategies.state import Contribution, Delta, State

Start = Callable[[Arrays, RunConfig], State]
Combine = Callable[[Sequence[Contribution], RunConfig], Delta]
Step = Callable[[State, Delta, RunConfig], State]


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

    start: Start
    combine: Combine
    step: Step
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
