"""Server strategies, one a file: plain functions from a state and the round's updates to the next state.

Each module has ``start(head, config)``, ``combine(updates, config)`` and ``step(state, delta, config)``; one whose sites
need more than the head to train has ``extra(state)`` too. ``config.sites`` is the number of sites that train. A one-shot
head has ``solve(sums, config)`` instead, from the sums that ``fedtransfer.common.wire.sums`` names for it, and ``solve_noisy(sums, config,
deviation)`` where it works under differential privacy.
"""

from types import ModuleType

from fedtransfer.server.strategies import (
    fed3r,
    fedadagrad,
    fedadam,
    fedavg,
    fedcof,
    fedncm,
    fedopt,
    fedprox,
    fedyogi,
    median,
    perfedavg,
    reptile,
    scaffold,
    trimmed_mean,
)

_STRATEGIES: dict[str, ModuleType] = {
    "fedavg": fedavg,
    "fedprox": fedprox,
    "scaffold": scaffold,
    "fedadam": fedadam,
    "fedyogi": fedyogi,
    "fedadagrad": fedadagrad,
    "fedopt": fedopt,
    "reptile": reptile,
    "perfedavg": perfedavg,
    "median": median,
    "trimmed-mean": trimmed_mean,
    "fedncm": fedncm,
    "fed3r": fed3r,
    "fedcof": fedcof,
}


def strategy(name: str) -> ModuleType:
    """Return the module of a strategy by its name in the run config."""
    return _STRATEGIES[name]


__all__ = ["strategy"]
