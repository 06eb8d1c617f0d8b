"""What a run promises, for its settings."""

import math

import pytest

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.privacy.accounting import Release, epsilon
from fedtransfer.common.privacy.guarantee import Guarantee, guarantee

DECLARED = {"classes": "declared", "class_names": "a,b"}
SITE = {"dp": "site", "weighting": "uniform", **DECLARED}
IMAGE = {**SITE, "dp": "image"}


def promised(**settings: object) -> Guarantee:
    result = guarantee(RunConfig(**settings))
    assert result is not None
    return result


def test_a_run_without_differential_privacy_promises_nothing() -> None:
    assert guarantee(RunConfig()) is None
    assert guarantee(RunConfig(masks=True, **DECLARED)) is None


def test_the_noise_for_an_epsilon_keeps_all_rounds_within_it() -> None:
    run = promised(**SITE, epsilon=8, rounds=40, fraction=0.3, sampling="poisson")
    assert (run.unit, run.releases, run.rounds, run.release.rate) == ("site", 1, 40, 0.3)
    assert run.neighbours == "add or remove one site"
    assert run.sampling == "Poisson, 0.3"
    assert 7.9 < run.epsilon(40) <= 8
    assert run.affordable == 40


@pytest.mark.parametrize(
    ("settings", "release", "releases", "rounds"),
    [
        ({**SITE, "rounds": 7}, Release(1, 2), 1, 7),
        ({**SITE, "rounds": 7, "fraction": 0.5, "sampling": "poisson"}, Release(0.5, 2), 1, 7),
        ({**SITE, "noise": "shared", "masks": True, "min_sites": 3, "fraction": 0.5, "sampling": "poisson"},
         Release(1, 2, True), 1, 100),
        ({**IMAGE, "image_rate": 0.1, "local_epochs": 2}, Release(0.1, 2), 20, 100),
        ({**IMAGE, "image_rate": 0.1, "local_steps": 3, "rounds": 9}, Release(0.1, 2), 3, 9),
        ({**IMAGE, "noise": "shared", "masks": True, "min_sites": 3, "local_steps": 1},
         Release(0.05, 2, True), 1, 100),
        ({"dp": "image", "strategy": "fed3r", **DECLARED}, Release(1, 2), 1, 1),
    ],
)  # fmt: skip
def test_releases_follow_from_the_settings(
    settings: dict, release: Release, releases: int, rounds: int
) -> None:
    run = promised(**settings, noise_multiplier=2, delta=1e-6)
    assert (run.release, run.releases, run.rounds) == (release, releases, rounds)
    assert run.epsilon(rounds) == epsilon({release: releases * rounds}, 1e-6)
    assert math.isinf(run.epsilon_limit)
    assert run.affordable == rounds


def test_a_budget_ends_before_it_would_be_exceeded() -> None:
    run = promised(**SITE, epsilon=4, noise_multiplier=6, rounds=200)
    assert 0 < run.affordable < 200
    assert run.epsilon(run.affordable) <= 4 < run.epsilon(run.affordable + 1)


@pytest.mark.parametrize("rounds", [1, 2, 30])
def test_a_budget_that_the_first_round_exceeds_is_refused(rounds: int) -> None:
    with pytest.raises(UserError, match=r"epsilon 0\.5 .* 4\.38 at delta 1e-05"):
        promised(**SITE, epsilon=0.5, noise_multiplier=1, rounds=rounds)


def test_what_is_shown_on_the_way_is_never_too_little_and_exact_in_the_end() -> None:
    run = promised(**SITE, noise_multiplier=3, rounds=57)
    shown = [run.epsilon_at_most(rounds) for rounds in range(58)]
    assert shown[0] == 0
    assert shown[57] == run.epsilon(57)
    assert shown == sorted(shown)
    for rounds in range(1, 58):
        assert run.epsilon(rounds) <= shown[rounds] <= run.epsilon(math.floor(1.25 * rounds))
    assert len(set(shown)) < 20
    assert run.epsilon_at_most(60) == run.epsilon(60)
