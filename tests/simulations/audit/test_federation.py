"""Federations in memory: bits of the in-process engine, and what the real server sees of sites."""

from pathlib import Path

import numpy as np
import pytest
from drawn_sites import Drawn, assert_same, numbers, seen, three_sites

from fedtransfer.client import tasks as work
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.wire.protocol import Sums, Update
from fedtransfer.simulations.audit.federation import TOTAL, RoundView, Split, federate

DATA = three_sites(validation=0)
CLASSES = "abc"
DP = {"weighting": "uniform", "classes": "declared", "class_names": "a,b,c"}
DP_SITE = {**DP, "dp": "site", "noise_multiplier": 0.3, "clip": 0.5}
DP_IMAGE = {**DP, "dp": "image", "noise_multiplier": 0.5, "image_rate": 0.5}
MOMENTUM = {"server_learning_rate": 0.3, "server_momentum": 0.9}


def in_memory(config: RunConfig) -> dict[str, Split]:
    return {
        name: (seen(config, splits["train"][0]), numbers(splits["train"][1], CLASSES))
        for name, splits in DATA.items()
    }


def watched(config: RunConfig, **arguments: object) -> tuple[tuple[np.ndarray, ...], list[RoundView]]:
    rounds: list[RoundView] = []
    return federate(config, in_memory(config), 3, observe=rounds.append, **arguments), rounds


@pytest.mark.parametrize(
    "settings",
    [
        MOMENTUM,
        {**MOMENTUM, "rounds": 6, "fraction": 0.5, "local_epochs": 2, "batch_size": 8, "schedule": "cosine"},
        {"rounds": 6, "fraction": 0.4, "sampling": "poisson"},
        {"strategy": "fedprox", "proximal": 0.1, "weight_decay": 0.01},
        {"strategy": "fedadam", "server_momentum": 0.9, "server_learning_rate": 0.1},
        {"strategy": "median"},
        {"strategy": "perfedavg", "class_balance": 0.9},
        {"weighting": "uniform"},
        {"strategy": "fedncm"},
        {"strategy": "fed3r", "ridge": 0.1},
        {"strategy": "fed3r", "ridge": 1.0, "lda": True},
        {"strategy": "fedcof", "ridge": 1.0},
    ],
    ids=str,
)
def test_it_has_the_bits_of_the_in_process_engine_and_shows_what_its_server_sees(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    run = Drawn(DATA, tmp_path)
    outcome = run.run(**settings)
    head, rounds = watched(run.config(**settings))
    assert_same(head, outcome.progress.state.head)
    records = [record for record in run.records if record.phase in ("train", "sums")]
    assert len(rounds) == len(records)
    # A record has no arrays of sums that the server adds up as they arrive.
    sent = {(site, a.round): a for site, a in run.answered if isinstance(a, Update | Sums)}
    for own, record in zip(rounds, records, strict=True):
        assert own.round == record.round
        assert list(own.sent) == list(record.answers)
        for site in record.answers:
            answer = sent[site, record.round]
            assert own.sent[site].images == answer.examples == record.answers[site].examples
            assert_same(own.sent[site].arrays, answer.total if isinstance(answer, Update) else answer.arrays)


@pytest.mark.parametrize(
    "settings",
    [
        DP_SITE,
        {**DP_SITE, "fraction": 0.5, "sampling": "poisson", "rounds": 5},
        {**DP_SITE, "strategy": "perfedavg"},
    ],
    ids=["all", "sampled", "Per-FedAvg"],
)
def test_noise_on_sites_has_the_same_bits_from_the_same_draws(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    run = Drawn(DATA, tmp_path)
    outcome = run.run(rng=np.random.default_rng(5), **settings)
    head, rounds = watched(run.config(**settings), rng=np.random.default_rng(5))
    assert_same(head, outcome.progress.state.head)
    sent = [(site, update) for site, update in run.answered if isinstance(update, Update)]
    for own in rounds:  # the server sees updates before its noise, but not how many images they are of
        theirs = {site: update for site, update in sent if update.round == own.round}
        assert set(own.sent) == set(theirs)
        for site, update in theirs.items():
            assert own.sent[site].images is None
            assert_same(own.sent[site].arrays, update.total)


@pytest.mark.parametrize(
    "settings",
    [
        {**DP_IMAGE, "rounds": 1, "local_steps": 4},
        {**DP_IMAGE, "strategy": "fedncm", "image_rate": 0.05, "weighting": "examples"},
        {**DP_IMAGE, "strategy": "fed3r", "image_rate": 0.05, "weighting": "examples"},
    ],
    ids=["DP-SGD", "DP-FedNCM", "DP-Fed3R"],
)
def test_noise_on_images_has_the_same_bits_from_the_same_draws(
    tmp_path: Path, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one site: in which order several would take their draws is not said."""
    anna = {"anna": DATA["anna"]}
    monkeypatch.setattr(work, "secret_generator", lambda: np.random.default_rng(6))
    run = Drawn(anna, tmp_path)
    outcome, config = run.run(**settings), run.config(**settings)
    rounds: list[RoundView] = []
    alone = {"anna": in_memory(config)["anna"]}
    assert_same(
        federate(config, alone, 3, observe=rounds.append, rng=np.random.default_rng(6)),
        outcome.progress.state.head,
    )
    [(_, answer)] = [(site, answer) for site, answer in run.answered if isinstance(answer, Update | Sums)]
    assert_same(rounds[0].sent["anna"].arrays, answer.total if isinstance(answer, Update) else answer.arrays)
    assert rounds[0].sent["anna"].images is None


@pytest.mark.parametrize(
    "settings",
    [{}, {"strategy": "fedncm"}, {"strategy": "fed3r", "ridge": 1.0}, {"weighting": "uniform"}],
    ids=str,
)
def test_under_masks_the_server_sees_the_sum_to_rounding(tmp_path: Path, settings: dict[str, object]) -> None:
    run = Drawn(DATA, tmp_path)
    declared = {"masks": True, "classes": "declared", "class_names": "a,b,c"}
    plain, clear = watched(run.config(**settings))
    masked, rounds = watched(run.config(**settings, **declared), rng=np.random.default_rng(0))
    for one, other in zip(masked, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    for own, open_ in zip(rounds, clear, strict=True):
        assert list(own.sent) == [TOTAL]
        assert own.sent[TOTAL].images == sum(sent.images or 0 for sent in open_.sent.values())
        for total, *parts in zip(
            own.sent[TOTAL].arrays, *(sent.arrays for sent in open_.sent.values()), strict=True
        ):
            np.testing.assert_allclose(total, sum(parts), atol=1e-4 if own.round > 1 else 3e-8)
    outcome = run.run(**settings, **declared)
    for one, other in zip(masked, outcome.progress.state.head, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_shared_noise_is_on_the_total_and_only_there() -> None:
    settings = {**DP_IMAGE, "masks": True, "noise": "shared", "strategy": "fedncm", "min_sites": 3,
                "image_rate": 0.05, "weighting": "examples", "noise_multiplier": 2.0}  # fmt: skip
    config = RunConfig(sites=3, **settings)
    totals = []
    for seed in range(40):
        _, [only] = watched(config, rng=np.random.default_rng(seed))
        totals.append(only.sent[TOTAL].arrays[0])
    _, [clear] = watched(RunConfig(sites=3, strategy="fedncm"))
    truth = sum(sent.arrays[0] for sent in clear.sent.values())
    noise = np.array(totals) - truth
    assert noise.std() == pytest.approx(2.0, rel=0.03)  # honest sites: all three; features have length 1
    assert abs(noise.mean()) < 5 * 2.0 / noise.size**0.5


def test_a_key_moves_the_draws_and_nothing_else() -> None:
    config = Drawn(DATA, Path()).config(batch_size=4)
    sites = in_memory(config)
    heads = {key: federate(config, sites, 3, key) for key in (None, 1, 2, "1")}
    assert_same(federate(config, sites, 3, 1), heads[1])
    kernels = [head[0] for head in heads.values()]
    for i, one in enumerate(kernels):
        for other in kernels[:i]:
            assert not np.array_equal(one, other)
            np.testing.assert_allclose(one, other, atol=2.0)  # the same images: heads of one kind
    exact = Drawn(DATA, Path()).config(strategy="fedncm")
    assert_same(federate(exact, sites, 3, 1), federate(exact, sites, 3, 2))


def test_noise_is_fresh_each_time() -> None:
    config = RunConfig(
        sites=3, strategy="fedncm", **{**DP_IMAGE, "image_rate": 0.05, "weighting": "examples"}
    )
    sites = in_memory(config)
    assert not np.array_equal(federate(config, sites, 3)[0], federate(config, sites, 3)[0])


def test_the_budget_ends_the_rounds() -> None:
    settings = {**DP_IMAGE, "epsilon": 30.0, "rounds": 50}
    _, rounds = watched(RunConfig(sites=3, **settings), rng=np.random.default_rng(0))
    assert 0 < len(rounds) < 50


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"trainable": "conv5"}, "trainable conv5: .*one softmax layer"),
        ({"hidden_units": 8}, "hidden-units 8: .*leave it at its default"),
        ({"optimizer": "adam", "learning_rate": 0.001}, "optimizer adam"),
        ({"early_stopping": 3}, "early-stopping 3: validation images"),
        ({"augment": 2}, "augment 2: .*views"),
        ({"init": "fedncm"}, "init fedncm"),
        ({"strategy": "scaffold"}, "scaffold: its sites keep a state on disk"),
        ({"standardise": "federated"}, "give --standardise centre"),
        ({"strategy": "fed3r"}, "ridge 0: fed3r would choose lambda"),
        ({"max_update_norm": 1.0}, "max-update-norm 1"),
    ],
)
def test_what_cannot_be_repeated_is_refused_with_the_reason(settings: dict[str, object], why: str) -> None:
    config = RunConfig(sites=3, **settings)
    with pytest.raises(UserError, match=why):
        federate(config, {"a": (np.zeros((2, 4), np.float32), np.zeros(2, np.int64))}, 2)


def test_sites_without_any_image_make_no_federation() -> None:
    with pytest.raises(UserError, match="none of the 1 sites has a training image"):
        federate(RunConfig(sites=1), {"a": (np.zeros((0, 4), np.float32), np.zeros(0, np.int64))}, 2)
