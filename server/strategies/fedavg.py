"""FedAvg with server momentum.

McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data"
(arXiv 1602.05629): the next head is the mean of the sites' heads, weighted by numbers of images.

Hsu et al. 2019, "Measuring the Effects of Non-Identical Data Distribution" (arXiv 1909.06335): the
server takes the mean update as a gradient and follows it with momentum β and rate η. With β = 0 and
η = 1 that is plain FedAvg.
"""

from collections.abc import Sequence

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays
from fedtransfer.server.strategies.strategy import Contribution, Delta, State, Strategy, moved, summed, zeros


def start(head: Arrays, config: RunConfig) -> State:
    """Begin at ``head``, at rest."""
    return State(head, {"velocity": zeros(head)})


def combine(contributions: Sequence[Contribution], config: RunConfig) -> Delta:
    """Return Σ n_k · delta_k / Σ n_k: summed in float64 in the order given, divided once."""
    totals = summed([contribution.total for contribution in contributions])
    weight = sum(contribution.weight for contribution in contributions)
    return tuple(total / weight for total in totals)


def step(state: State, delta: Delta, config: RunConfig) -> State:
    """Make one server step: v ← βv + Δ, w ← w + ηv."""
    velocity = tuple(
        config.server_momentum * v + d for v, d in zip(state.slots["velocity"], delta, strict=True)
    )
    return State(moved(state.head, velocity, config.server_learning_rate), {"velocity": velocity})


FEDAVG = Strategy(start, combine, step)
