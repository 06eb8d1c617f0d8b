"""FedYogi: v ← v - (1 - β₂)Δ² · sign(v - Δ²).

Reddi et al. 2021, "Adaptive Federated Optimization" (arXiv 2003.00295), Algorithm 2.
"""

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.server.strategies.adaptive import adapt, start
from fedtransfer.server.strategies.fedavg import combine
from fedtransfer.server.strategies.state import Delta, State
from fedtransfer.server.strategies.strategy import Strategy


def step(state: State, delta: Delta, config: RunConfig) -> State:
    """Make one server step."""
    beta = config.second_momentum
    return adapt(state, delta, config, lambda v, squared: v - (1 - beta) * squared * np.sign(v - squared))


FEDYOGI = Strategy(start, combine, step)
