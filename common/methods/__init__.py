"""The methods, one a file: each a record of what it is called, reads, sends, tells and goes with.

A new method is a file here and one in ``server/strategies/``, and an entry in the ``__init__`` of
both. All else reads its record: options and their rules, training at the sites, consent, tables,
reports and audits.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from fedtransfer.common.methods.fed3r import FED3R
from fedtransfer.common.methods.fedadagrad import FEDADAGRAD
from fedtransfer.common.methods.fedadam import FEDADAM
from fedtransfer.common.methods.fedavg import FEDAVG
from fedtransfer.common.methods.fedcof import FEDCOF
from fedtransfer.common.methods.fedexp import FEDEXP
from fedtransfer.common.methods.fedncm import FEDNCM
from fedtransfer.common.methods.fedopt import FEDOPT
from fedtransfer.common.methods.fedprox import FEDPROX
from fedtransfer.common.methods.fedyogi import FEDYOGI
from fedtransfer.common.methods.median import MEDIAN
from fedtransfer.common.methods.method import Method, Verdict
from fedtransfer.common.methods.perfedavg import PERFEDAVG
from fedtransfer.common.methods.reptile import REPTILE
from fedtransfer.common.methods.robust_lda import ROBUST_LDA
from fedtransfer.common.methods.scaffold import SCAFFOLD
from fedtransfer.common.methods.trimmed_mean import TRIMMED_MEAN

METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        FEDAVG, FEDPROX, SCAFFOLD, FEDADAM, FEDYOGI, FEDADAGRAD, FEDOPT, FEDEXP, REPTILE, PERFEDAVG, MEDIAN,
        TRIMMED_MEAN, FEDNCM, FED3R, FEDCOF, ROBUST_LDA,
    )
}  # fmt: skip
ONE_SHOT = tuple(name for name, method in METHODS.items() if method.sums)
# Of a strategy from outside, module:NAME.
OUTSIDE_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)
_SUM_ONLY = Verdict(True, "if it says that it works on the sum of updates alone (sum_only)")


def outside(name: str) -> Method:
    """Return the one record of all strategies from outside, ``--strategy my_module:NAME``.

    A site never imports one. To sites it is FedAvg: they train as in FedAvg and send n · delta and
    n. So a site that consents to ``fedavg`` consents to any strategy from outside: its work is at
    the server.
    """
    return replace(FEDAVG, title=name, paper="", masks=_SUM_ONLY, dp_site=_SUM_ONLY)
