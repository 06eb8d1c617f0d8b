"""Strategies from outside, ``--strategy my_module:NAME``: one record stands for all of them.

A site never imports one. To sites it is FedAvg: they train as in FedAvg and send n · delta and n.
So a site that consents to ``fedavg`` consents to any strategy from outside: its work is at the server.
"""

import re
from dataclasses import replace

from fedtransfer.common.methods.fedavg import FEDAVG
from fedtransfer.common.methods.method import Method, Verdict

NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)
_SUM_ONLY = Verdict(True, "if it says that it works on the sum of updates alone (sum_only)")


def outside(name: str) -> Method:
    """Return the record of a strategy from outside."""
    return replace(FEDAVG, title=name, paper="", masks=_SUM_ONLY, dp_site=_SUM_ONLY)
