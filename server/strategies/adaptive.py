"""What FedAdam, FedYogi and FedAdagrad share.

Reddi et al. 2021, "Adaptive Federated Optimization" (arXiv 2003.00295), Algorithm 2:
m ← β₁m + (1 - β₁)Δ, v ← its own rule, w ← w + η · m / (√v + τ); no bias correction; v₀ = τ².
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays
from fedtransfer.server.strategies.fedavg import combine
from fedtransfer.server.strategies.strategy import Delta, State, Strategy, moved, zeros

Moment = NDArray[np.float64]


def adaptive(second_moment: Callable[[Moment, Moment, float], Moment]) -> Strategy:
    """Make the strategy of a rule for the second moment: v, Δ², β₂ → the next v."""

    def start(head: Arrays, config: RunConfig) -> State:
        return State(
            head, {"first": zeros(head), "second": tuple(z + config.adaptivity**2 for z in zeros(head))}
        )

    def step(state: State, delta: Delta, config: RunConfig) -> State:
        beta, slots = config.server_momentum, state.slots
        first = tuple(beta * m + (1 - beta) * d for m, d in zip(slots["first"], delta, strict=True))
        moments = zip(slots["second"], delta, strict=True)
        second = tuple(second_moment(v, d**2, config.second_momentum) for v, d in moments)
        scaled = tuple(m / (np.sqrt(v) + config.adaptivity) for m, v in zip(first, second, strict=True))
        following = moved(state.head, scaled, config.server_learning_rate)
        return State(following, {"first": first, "second": second})

    return Strategy(start, combine, step)
