"""Server strategies, one a file: plain functions from a state and the round's updates to the next state.

Each module has ``start(head, config)``, ``combine(updates, config)`` and ``step(state, delta, config)``.
"""

from types import ModuleType

from server.strategies import fedadagrad, fedadam, fedavg, fedprox, fedyogi, median, trimmed_mean

_STRATEGIES: dict[str, ModuleType] = {
    "fedavg": fedavg,
    "fedprox": fedprox,
    "fedadam": fedadam,
    "fedyogi": fedyogi,
    "fedadagrad": fedadagrad,
    "median": median,
    "trimmed-mean": trimmed_mean,
}


def strategy(name: str) -> ModuleType:
    """Return the module of a strategy by its name in the run config."""
    return _STRATEGIES[name]


__all__ = ["strategy"]
