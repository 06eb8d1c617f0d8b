"""What two hostile sites of ten unequal ones cost. docs/methods.md has a table on real images."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from drawn_features import drawn
from feature_files import write

from fedtransfer.common.config.config import make_config
from fedtransfer.simulations.display import QuietDisplay
from fedtransfer.simulations.federation import simulate
from fedtransfer.simulations.hostility.attacks import ATTACKS

pytestmark = pytest.mark.run
SEEDS = range(3)
Accuracy = Callable[[str, str, float], float]  # strategy, attack, scale → mean over seeds


@pytest.fixture(scope="module")
def accuracy(tmp_path_factory: pytest.TempPathFactory) -> Accuracy:
    """Mean balanced accuracy over seeds, each of which divides 2,000 images among ten sites."""
    folder = tmp_path_factory.mktemp("bound")
    x, y = drawn(np.full(10, 200), np.random.default_rng(0))
    data = write(
        folder / "f.npz", x, {"name": "drawn", "width": 32, "version": "1"}, label=[f"class {k}" for k in y]
    )

    def one(seed: int, strategy: str, attack: str, scale: float) -> float:
        settings = {
            "strategy": strategy, "attack": attack, "attack-scale": scale, "seed": seed, "alpha": 0.3,
            "hostile-sites": 2, "rounds": 10, "baselines": False, "models": False, "data": str(data),
            "out": str(folder / f"{strategy}-{attack}-{scale}-{seed}"), "store": str(folder / "store"),
        }  # fmt: skip
        if strategy == "robust-lda":
            del settings["rounds"]
        summary = simulate(make_config(settings, "test"), QuietDisplay()).summary
        return float(summary["macro_recall"])

    @cache
    def accuracy(strategy: str, attack: str, scale: float) -> float:
        return float(np.mean([one(seed, strategy, attack, scale) for seed in SEEDS]))

    return accuracy


CASES = [(attack, scale) for attack in ATTACKS if attack != "none" for scale in (1.0, 10.0)]
SHORT = (("sign-flip", 10.0), ("small-shift", 1.0))  # in `make test` too


@pytest.mark.parametrize(
    ("attack", "scale"),
    [pytest.param(*case, marks=() if case in SHORT else pytest.mark.full) for case in CASES],
)
def test_two_of_ten_cost_robust_lda_less_than_two_points(
    accuracy: Accuracy, attack: str, scale: float
) -> None:
    assert accuracy("robust-lda", attack, scale) > accuracy("robust-lda", "none", 1.0) - 0.02


def test_they_ruin_fedavg(accuracy: Accuracy) -> None:
    """Else the bound would say nothing."""
    honest = accuracy("fedavg", "none", 1.0)
    assert honest > 0.5
    assert accuracy("fedavg", "sign-flip", 10.0) < honest - 0.2
    assert accuracy("robust-lda", "none", 1.0) > honest - 0.02
