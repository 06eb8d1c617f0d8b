"""FedExP.

Jhunjhunwala, Wang and Joshi 2023, "FedExP: Speeding Up Federated Averaging via Extrapolation" (arXiv 2301.09604),
Algorithm 1. With Δ_k the change of the head at site k, p_k its weight and Δ = Σ p_k Δ_k, the server steps by

    w ← w + η Δ,   η = max(1, Σ p_k ‖Δ_k‖² / (2 (‖Δ‖² + ε))):

as FedAvg does if the sites agree, and up to half as many times as far as there are sites if their changes are at right
angles. The paper weighs all sites alike; here that is ``--weighting uniform``.
"""

from collections.abc import Sequence

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.privacy.clipping import norm
from fedtransfer.server.strategies import fedavg
from fedtransfer.server.strategies.reptile import start
from fedtransfer.server.strategies.state import Contribution, Delta, State, moved
from fedtransfer.server.strategies.strategy import Strategy

EPSILON = 1e-3  # keeps the step bounded where the sites' changes cancel out


def combine(contributions: Sequence[Contribution], config: RunConfig) -> Delta:
    """Return FedAvg's mean of deltas, followed by η."""
    mean = fedavg.combine(contributions, config)
    weight = sum(contribution.weight for contribution in contributions)
    squares = sum(contribution.weight * norm(contribution.delta) ** 2 for contribution in contributions) / weight
    return *mean, np.array(max(1.0, squares / (2 * (norm(mean) ** 2 + EPSILON))))


def step(state: State, delta: Delta, config: RunConfig) -> State:
    """Make one server step."""
    *mean, rate = delta
    return State(moved(state.head, tuple(mean), float(rate)), {})


FEDEXP = Strategy(start, combine, step)
