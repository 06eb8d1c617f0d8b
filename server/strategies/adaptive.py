"""What FedAdam, FedYogi and FedAdagrad share: Algorithm 2 of Reddi et al. 2021, "Adaptive Federated Optimization".

arXiv 2003.00295: m ← β₁m + (1 - β₁)Δ, v ← its own rule, w ← w + η · m / (√v + τ); no bias correction; v begins at τ².
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays
from fedtransfer.server.strategies.state import Delta, State, moved, zeros

SecondMoment = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]  # (v, Δ²) → next v


def start(head: Arrays, config: RunConfig) -> State:
    """Begin at ``head`` with m = 0 and v = τ²."""
    return State(head, {"first": zeros(head), "second": tuple(z + config.adaptivity**2 for z in zeros(head))})


def adapt(state: State, delta: Delta, config: RunConfig, second_moment: SecondMoment) -> State:
    """Make one server step with the given rule for v."""
    beta = config.server_momentum
    first = tuple(beta * m + (1 - beta) * d for m, d in zip(state.slots["first"], delta, strict=True))
    second = tuple(second_moment(v, d**2) for v, d in zip(state.slots["second"], delta, strict=True))
    scaled = tuple(m / (np.sqrt(v) + config.adaptivity) for m, v in zip(first, second, strict=True))
    return State(moved(state.head, scaled, config.server_learning_rate), {"first": first, "second": second})
