"""The server's half of each method, one a file: a ``Strategy``, or a ``OneShotHead``."""

from collections.abc import Mapping

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
ONE_SHOT_HEADS: Mapping[str, OneShotHead] = {"fedncm": FEDNCM, "fed3r": FED3R, "fedcof": FEDCOF}
