"""SCAFFOLD.

Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning"
(arXiv 1910.06378), Algorithm 1: sites correct their gradients by c - c_k
(``fedtransfer.client.training.scaffold``). Of the cohort S of N sites,

    x ← x + η_g · mean of (y_k - x),    c ← c + 1/N · Σ_S (c_k⁺ - c_k).

The mean and the step are FedAvg's: weighted as in the rest of the project, with the server's
momentum. With weighting uniform and momentum 0 this is the paper's algorithm.
"""

from collections.abc import Sequence

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.wire.protocol import CONTROL, Extra
from fedtransfer.server.strategies import fedavg
from fedtransfer.server.strategies.strategy import Contribution, Delta, State, Strategy, summed, zeros


def start(head: Arrays, config: RunConfig) -> State:
    """Begin at ``head``, at rest, with c = 0."""
    return State(head, {**fedavg.start(head, config).slots, "control": zeros(head)})


def extra(state: State) -> Extra:
    """Return what sites get next to the head: c, float32."""
    return {CONTROL: tuple(array.astype(np.float32) for array in state.slots["control"])}


def combine(contributions: Sequence[Contribution], config: RunConfig) -> Delta:
    """Return FedAvg's mean of deltas, followed by Σ (c_k⁺ - c_k)."""
    return *fedavg.combine(contributions, config), *summed(
        [contribution.control for contribution in contributions]
    )


def step(state: State, delta: Delta, config: RunConfig) -> State:
    """Make one server step; N is ``config.sites``, the number of sites that train."""
    head, changes = delta[: len(state.head)], delta[len(state.head) :]
    following = fedavg.step(state, head, config)
    control = tuple(
        c + change / config.sites for c, change in zip(state.slots["control"], changes, strict=True)
    )
    return State(following.head, {**following.slots, "control": control})


SCAFFOLD = Strategy(start, combine, step, extra)
