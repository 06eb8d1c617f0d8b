"""A strategy of your own: FedAvg that moves an entry of the head only if most sites agree where to.

Run it here, on the bundled images, with FedAvg for comparison:

    python examples/my_own_strategy.py

Or by its name, wherever Python finds this file. Sites do not need it: to them it is FedAvg.

    PYTHONPATH=examples fedtransfer simulate --strategy my_own_strategy:AGREEMENT

It looks at every site's update, so ``sum_only`` stays False, and --masks and --dp site refuse it.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

import fedtransfer as ft
from fedtransfer.server.strategies.fedavg import FEDAVG
from fedtransfer.server.strategies.strategy import Contribution, Delta

AGREEMENT_NEEDED = 0.2  # of the mean sign: 0 if half of the sites point either way, 1 if all agree


def combine(contributions: Sequence[Contribution], config: ft.RunConfig) -> Delta:
    """Return FedAvg's mean update, with 0 in each entry whose direction is in dispute."""
    mean = FEDAVG.combine(contributions, config)
    signs = [np.mean([np.sign(c.total[k]) for c in contributions], axis=0) for k in range(len(mean))]
    return tuple(np.where(np.abs(s) >= AGREEMENT_NEEDED, m, 0.0) for s, m in zip(signs, mean, strict=True))


AGREEMENT = replace(FEDAVG, combine=combine)

if __name__ == "__main__":
    for strategy in ("fedavg", AGREEMENT):
        run = ft.simulate(alpha=0.1, rounds=10, strategy=strategy, baselines=False)
        print(
            f"{strategy if isinstance(strategy, str) else 'agreement'}: {run.accuracy:.1%} of the test images"
        )
