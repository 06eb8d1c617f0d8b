"""Audits of what a config asks for. All randomness has a seed."""

from typing import Any
from unittest.mock import patch

import pytest

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.server.privacy.mechanism import SiteLevel
from fedtransfer.simulations.audit.one_run import lower_bound, one_run_bound

pytestmark = pytest.mark.run
DECLARED = {"classes": "declared", "class_names": "a,b"}
SITES = {"dp": "site", "weighting": "uniform", "sites": 1000, **DECLARED}
STEPS = {"dp": "image", "weighting": "uniform", "local_steps": 5, "image_rate": 0.3, **DECLARED}
KINDS: dict[str, dict[str, Any]] = {
    "images, steps of several rounds": {**STEPS, "rounds": 2, "epsilon": 2.0},
    "images, the noise given": {**STEPS, "rounds": 2, "noise_multiplier": 2.0, "clip": 0.5},
    "images, a clip beyond the features": {**STEPS, "rounds": 2, "epsilon": 2.0, "clip": 500.0},
    "images, fedncm": {"dp": "image", "strategy": "fedncm", "epsilon": 2.0, **DECLARED},
    "images, fed3r": {"dp": "image", "strategy": "fed3r", "epsilon": 2.0, "clip": 2.0, **DECLARED},
    "sites, several rounds": {**SITES, "rounds": 2, "epsilon": 2.0},
    "sites, a sample each round": {
        **SITES,
        "rounds": 2,
        "epsilon": 3.0,
        "fraction": 0.6,
        "sampling": "poisson",
    },
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_a_config_asks_for_stays_below_its_claim(kind: str) -> None:
    config = RunConfig(**KINDS[kind])
    found, promised = one_run_bound(config, 0), guarantee(config)
    assert promised
    assert found.claimed == promised.epsilon(promised.affordable)
    assert 0.1 * found.claimed < found.bound < found.claimed < found.most
    assert found.bound == lower_bound(found.right, found.guesses, found.canaries, config.delta)


def test_rounds_that_the_promise_does_not_count_are_seen() -> None:
    """Of 12 rounds one is accounted for."""
    several, one = (RunConfig(**{**SITES, "rounds": rounds, "epsilon": 1.0}) for rounds in (12, 1))
    promised = guarantee(one)
    assert promised
    with patch.object(SiteLevel, "from_config", return_value=SiteLevel.from_config(several, promised)):
        found = one_run_bound(several, 0)
    assert found.claimed is not None
    assert found.claimed <= 1 < found.bound


@pytest.mark.parametrize("settings", [{}, {"strategy": "fedncm"}, {"strategy": "fed3r"}])
def test_without_differential_privacy_nothing_is_claimed_and_all_is_seen(settings: dict[str, Any]) -> None:
    found = one_run_bound(RunConfig(**settings), 0)
    assert found.claimed is None
    assert found.right == found.guesses
    assert found.bound == found.most > 6


def test_a_claim_that_is_too_large_shows_in_the_most_that_can_be_proven() -> None:
    found = one_run_bound(RunConfig(**{**STEPS, "local_steps": 1, "rounds": 1, "epsilon": 9.0}), 0)
    assert found.bound < found.most < found.claimed


def test_larger_claims_get_more_canaries() -> None:
    found = one_run_bound(RunConfig(**{**STEPS, "local_steps": 1, "rounds": 1, "epsilon": 5.9}), 0)
    assert found.canaries > 2000
    assert found.claimed is not None
    assert found.claimed < found.most


def test_shared_noise_is_not_audited() -> None:
    config = RunConfig(**{**SITES, "epsilon": 2.0, "noise": "shared", "masks": True, "min_sites": 20})
    with pytest.raises(UserError, match="audit the run with --noise alone"):
        one_run_bound(config, 0)
