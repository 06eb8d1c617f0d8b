"""The server's half of each method, one a file: a ``Strategy``, or a ``OneShotHead``.

A run may have a strategy from outside. ``--strategy my_module:NAME`` is imported where the server
runs. From Python it may be an object too: ``with_strategy`` gives it a name in the run's settings,
and the object is passed along.
"""

from collections.abc import Mapping

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.methods import METHODS
from fedtransfer.common.support.plugins import load
from fedtransfer.server.strategies.fed3r import FED3R
from fedtransfer.server.strategies.fedadagrad import FEDADAGRAD
from fedtransfer.server.strategies.fedadam import FEDADAM
from fedtransfer.server.strategies.fedavg import FEDAVG
from fedtransfer.server.strategies.fedcof import FEDCOF
from fedtransfer.server.strategies.fedexp import FEDEXP
from fedtransfer.server.strategies.fedncm import FEDNCM
from fedtransfer.server.strategies.fedopt import FEDOPT
from fedtransfer.server.strategies.fedprox import FEDPROX
from fedtransfer.server.strategies.fedyogi import FEDYOGI
from fedtransfer.server.strategies.median import MEDIAN
from fedtransfer.server.strategies.perfedavg import PERFEDAVG
from fedtransfer.server.strategies.reptile import REPTILE
from fedtransfer.server.strategies.robust_lda import ROBUST_LDA
from fedtransfer.server.strategies.scaffold import SCAFFOLD
from fedtransfer.server.strategies.strategy import OneShotHead, Strategy
from fedtransfer.server.strategies.trimmed_mean import TRIMMED_MEAN

STRATEGIES: Mapping[str, Strategy] = {
    "fedavg": FEDAVG,
    "fedprox": FEDPROX,
    "scaffold": SCAFFOLD,
    "fedadam": FEDADAM,
    "fedyogi": FEDYOGI,
    "fedadagrad": FEDADAGRAD,
    "fedopt": FEDOPT,
    "fedexp": FEDEXP,
    "reptile": REPTILE,
    "perfedavg": PERFEDAVG,
    "median": MEDIAN,
    "trimmed-mean": TRIMMED_MEAN,
}
ONE_SHOT_HEADS: Mapping[str, OneShotHead] = {
    "fedncm": FEDNCM,
    "fed3r": FED3R,
    "fedcof": FEDCOF,
    "robust-lda": ROBUST_LDA,
}
_OBJECT = "object:"


def with_strategy(config: RunConfig, strategy: Strategy) -> RunConfig:
    """Return a run's settings for a strategy that is passed as an object.

    Raises:
        ValueError: they do not go with a strategy from outside.
        UserError: the run's server is another process, which an object cannot be passed to.
    """
    if config.engine == "deployment":
        why = "its server is a process of its own, and a strategy cannot be passed to it as an object"
        raise UserError(f"engine deployment: {why}; give --strategy module:NAME")
    return RunConfig(**{**config.model_dump(), "strategy": f"{_OBJECT}{type(strategy).__name__}"})


def strategy_of(config: RunConfig, given: Strategy | None = None) -> Strategy:
    """Return the strategy that a run's settings name, or the object that has its name in them.

    A run of a one-shot head makes no step; it gets FedAvg.

    Raises:
        UserError: it cannot be imported, or the run shows it the sum of updates alone.
    """
    if config.strategy in METHODS:
        return STRATEGIES.get(config.strategy, FEDAVG)
    if given is None and config.strategy.startswith(_OBJECT):
        raise UserError(
            f"strategy {config.strategy}: it was passed from Python; resume the run there, with it"
        )
    expected = "module:NAME of a Strategy or its maker, on the Python path"
    strategy = given or load(config.strategy, Strategy, "--strategy", expected)
    if not strategy.sum_only and (config.masks or config.dp == "site"):
        how = "--masks" if config.masks else "--dp site"
        why = (
            f"with {how} it receives only the total over all sites, and does not declare that this is enough"
        )
        remedy = f"if it is, set sum_only=True, otherwise leave out {how}"
        raise UserError(f"strategy {config.strategy}: {why}; {remedy}")
    return strategy
