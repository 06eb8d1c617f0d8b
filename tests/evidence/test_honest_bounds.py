"""Runs of honest sites do not meet the bounds that hold a liar: not a bit of their heads changes.

The bundled images, divided as unequally as the settings go: Dirichlet 0.1 over few and many sites,
two classes at each site, cohorts drawn, steps weighted by rare classes, a first head of sums.
"""

import csv
from pathlib import Path
from typing import Any

import pytest

import fedtransfer as ft

pytestmark = [pytest.mark.full, pytest.mark.process]

SKEWED: dict[str, dict[str, Any]] = {
    "three sites": {"sites": 3, "alpha": 0.1},
    "ten sites": {"sites": 10, "alpha": 0.1},
    "cohorts of four": {"sites": 10, "alpha": 0.3, "fraction": 0.4},
    "a first head of sums": {"sites": 5, "alpha": 0.1, "init": "fed3r"},
    "two classes each": {"sites": 5, "partition": "pathological"},
    "weighted classes": {"sites": 5, "alpha": 0.1, "class_balance": 0.99},
    "small steps": {"sites": 5, "alpha": 0.1, "strategy": "fedadam", "server_learning_rate": 0.1},
}


def heads(folder: Path, times: float, worst: float, seed: int, **settings: Any) -> list[bytes]:
    """Make a run under these bounds, on norms and on losses; return both heads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedtransfer.server.sites.outliers.TIMES", times)
        patch.setattr("fedtransfer.server.rounds.choice.WORST", worst)
        ft.simulate(
            out=folder, rounds=10, baselines=False, models=False, progress=False, seed=seed, **settings
        )
    with (folder / "sites.csv").open(newline="") as file:
        assert {row["status"] for row in csv.DictReader(file)} == {"ok"}
    return [(folder / name).read_bytes() for name in ("head.npz", "last-head.npz")]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", SKEWED)
def test_heads_of_honest_sites_have_the_same_bits_without_the_bounds(
    tmp_path: Path, name: str, seed: int
) -> None:
    """Half the bound on norms is not met either."""
    unbounded = heads(tmp_path / "unbounded", 1e9, 1e9, seed, **SKEWED[name])
    assert heads(tmp_path / "bounded", 5.0, 4.0, seed, **SKEWED[name]) == unbounded
