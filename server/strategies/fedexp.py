"""FedExP.

Jhunjhunwala, Wang and Joshi 2023, "FedExP: Speeding Up Federated Averaging via Extrapolation"
(arXiv 2301.09604), Algorithm 1. With Δ_k the change of the head at site k, p_k the site's share of
the weight, and Δ = Σ p_k Δ_k, the server makes the step

    w ← w + η Δ,   η = max(1, Σ p_k ‖Δ_k‖² / (2 (‖Δ‖² + ε))).

That is FedAvg's step if the sites agree, and K/2 times that if the changes of K sites are at right
angles and equally long. The paper weighs all sites alike, as ``--weighting uniform`` does.
"""

from collections.abc import Sequence

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.privacy.gaussian import norm
from fedtransfer.server.strategies import fedavg
from fedtransfer.server.strategies.reptile import start
from fedtransfer.server.strategies.strategy import Contribution, Delta, State, Strategy, moved

EPSILON = 1e-3  # keeps the step bounded where the sites' changes cancel out


def combine(contributions: Sequence[Contribution], config: RunConfig) -> Delta:
    """Return FedAvg's mean of deltas, followed by η."""
    mean = fedavg.combine(contributions, config)
    squares = sum(c.weight * norm(c.delta) ** 2 for c in contributions) / sum(c.weight for c in contributions)
    return *mean, np.array(max(1.0, squares / (2 * (norm(mean) ** 2 + EPSILON))))


def step(state: State, delta: Delta, config: RunConfig) -> State:
    """Make one server step."""
    *mean, rate = delta
    return State(moved(state.head, tuple(mean), float(rate)), {})


FEDEXP = Strategy(start, combine, step)
