"""A canary site: right code stays below its claim, weighting by images does not. All is seeded."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from evidence import canary_site
from evidence.canary_site import audit, configured, threshold_bound, weighted_by_images
from scipy.stats import norm

from fedtransfer.common.privacy.accounting import Release, epsilon

RUNS = 500


@pytest.mark.parametrize("claim", [1.0, 4.0])
def test_right_code_stays_below_its_claim(claim: float) -> None:
    bounds = [audit(configured(claim), seed, RUNS) for seed in range(2)]
    assert max(bounds) < claim
    assert claim < 4 or max(bounds) > 0.1 * claim, "the audit sees something"


@pytest.mark.parametrize("claim", [1.0, 4.0])
def test_weights_by_images_exceed_it(claim: float) -> None:
    with weighted_by_images():
        assert audit(configured(claim), 0, RUNS) > 1.05 * claim


def test_all_rounds_of_a_run_count_and_sites_come_by_their_own_draw() -> None:
    config = configured(4.0, rounds=2, fraction=0.5, sampling="poisson")
    assert 0 < audit(config, 1, RUNS) < 4.0
    fewer = configured(4.0, rounds=2)
    assert audit(fewer, 1, RUNS) < 4.0


@pytest.mark.parametrize("noise", [1.0, 3.0])
def test_a_gaussian_mechanism_is_refuted_in_less_than_one_of_twenty_audits(noise: float) -> None:
    rng, delta = np.random.default_rng(0), 1e-5
    true = epsilon({Release(1.0, noise): 1}, delta)
    bounds = np.array(
        [threshold_bound(rng.normal(1, noise, 1000), rng.normal(0, noise, 1000), delta) for _ in range(100)]
    )
    assert (bounds > true).mean() < 0.05
    assert bounds.mean() > 0.05 * true


def test_the_bound_is_that_of_errors_on_runs_that_did_not_choose_the_threshold() -> None:
    """With none of 500 runs misjudged on either side both rates are below 0.0074, at 95 %."""
    there, away = np.full(1000, 1.0), np.full(1000, 0.0)
    most = 1 - 0.025 ** (1 / 500)
    assert threshold_bound(there, away, 0.0) == pytest.approx(math.log((1 - most) / most))
    swapped = np.tile([1.0, 0.0], 500)  # the second half says the opposite of the first
    assert threshold_bound(swapped, 1 - swapped, 0.0) == 0.0


def test_what_is_the_same_with_and_without_the_canary_refutes_nothing() -> None:
    rng = np.random.default_rng(2)
    bounds = [threshold_bound(rng.normal(size=1000), rng.normal(size=1000), 1e-5) for _ in range(100)]
    assert np.mean([bound > 0 for bound in bounds]) < 0.05


def test_more_delta_refutes_less() -> None:
    quantiles = norm.ppf(np.linspace(0.001, 0.999, 1000))
    rng = np.random.default_rng(3)
    there, away = rng.permutation(quantiles) + 3, rng.permutation(quantiles)
    assert threshold_bound(there, away, 0.1) < threshold_bound(there, away, 0.0)


def test_the_table_has_right_and_broken_for_each_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary_site, "SEEDS", range(2))
    monkeypatch.setattr(canary_site, "CLAIMS", (2.0,))
    canary_site.main(tmp_path / "table.csv")
    right, broken = csv.DictReader((tmp_path / "table.csv").open(encoding="utf-8"))
    assert float(right["highest_bound"]) < 2 < float(broken["lowest_bound"])
