"""Hostile sites in simulations: who they are, what the server gets of them, what they achieve."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_features import drawn
from drawn_sites import draw, site_of
from feature_files import write
from flwr.app import Message
from flwr.clientapp import ClientApp

from fedtransfer.client.data import SiteData
from fedtransfer.common.config.config import RunConfig, make_config
from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.protocol import Scores, Update
from fedtransfer.simulations.display import QuietDisplay
from fedtransfer.simulations.engines.inprocess import InProcessGrid
from fedtransfer.simulations.federation import Result, simulate
from fedtransfer.simulations.hostility.attackers import Attackers

NAMES = [f"site-{k}" for k in range(6)]


def sites(config: RunConfig) -> dict[str, SiteData]:
    """Sites with 12 images a split, of two classes each; class a is the most frequent one."""
    kinds = ("ab", "ac", "ab", "ac", "ab", "ac")
    return {
        name: site_of({split: draw(k, 12, kinds[k]) for split in ("train", "validation", "test")}, config)
        for k, name in enumerate(NAMES)
    }


def attackers(seed: int = 0, number: int = 2, attack: str = "sign-flip", **settings: Any) -> Attackers:
    config = RunConfig(seed=seed, hostile_sites=number, attack=attack, **settings)
    return Attackers.draw(config, sites(config))


def test_the_seed_draws_who_attacks() -> None:
    assert attackers() == attackers()
    names = {name for seed in range(20) for name in attackers(seed).names}
    assert names == set(NAMES)
    assert {len(attackers(seed, 3).names) for seed in range(5)} == {3}


def test_their_source_is_the_class_that_they_have_most_images_of() -> None:
    for seed in range(10):
        drawn_ones = attackers(seed)
        assert drawn_ones.source == "a"
        assert drawn_ones.target in ("b", "c")


def test_one_site_at_least_is_honest() -> None:
    with pytest.raises(UserError, match=r"hostile-sites 6: 6 sites take part.* to 5 or less"):
        attackers(number=6)


def test_a_hostile_site_trains_on_poisoned_images_and_counts_and_scores_its_others() -> None:
    config = RunConfig(hostile_sites=2, attack="label-flip")
    honest = sites(config)
    hostile = Attackers.draw(config, honest)
    poisoned, classes = hostile.poisoned(honest), ("a", "b", "c")
    for name in NAMES:
        labels = honest[name].data("train", classes)[1]
        if name not in hostile.names:
            assert poisoned[name] is honest[name]
            continue
        flipped = np.where(labels == 0, classes.index(hostile.target), labels)
        np.testing.assert_array_equal(poisoned[name].data("train", classes)[1], flipped)
        for split in ("validation", "test"):
            for one, other in zip(
                poisoned[name].data(split, classes), honest[name].data(split, classes), strict=True
            ):
                np.testing.assert_array_equal(one, other)
        assert poisoned[name].images_by_class() == honest[name].images_by_class()


@pytest.fixture
def in_a_run() -> Iterator[None]:
    """Messages need a run, which a grid begins."""
    grid = InProcessGrid(ClientApp(), [], {}, 1)
    yield
    grid.close()


def message(value: Any) -> Message:
    return Message(wire.pack(value), dst_node_id=1, message_type="train")


def update(seed: int, examples: int) -> Update:
    rng, nothing = np.random.default_rng(seed), Counts.empty(3)
    total = tuple((examples * rng.normal(size=shape)).astype(np.float32) for shape in ((4, 3), (3,)))
    return Update(1, "f", "c", nothing, nothing, examples, total)


@pytest.mark.usefixtures("in_a_run")
@pytest.mark.parametrize("weighting", ["examples", "uniform"])
def test_only_updates_of_hostile_sites_are_altered(weighting: str) -> None:
    """And what they send has the weight that it had."""
    hostile = attackers(weighting=weighting, attack_scale=2.0)
    sent = {name: update(k, 1 if weighting == "uniform" else 3 + k) for k, name in enumerate(NAMES)}
    replies = {name: message(each) for name, each in sent.items()}
    altered = hostile.alter(replies)
    assert [*altered] == NAMES
    for name in NAMES:
        if name not in hostile.names:
            assert altered[name] is replies[name]
            continue
        got = wire.unpack(altered[name].content, Update)
        assert (got.examples, got.round) == (sent[name].examples, 1)
        for one, other in zip(got.total, sent[name].total, strict=True):
            np.testing.assert_allclose(one, -2 * other, rtol=1e-5)


@pytest.mark.usefixtures("in_a_run")
def test_scores_and_refusals_pass_as_they_are() -> None:
    hostile, nothing = attackers(), Counts.empty(3)
    replies = {name: message(Scores(1, "f", "c", nothing, nothing)) for name in NAMES}
    replies[hostile.names[0]] = message(SiteError("no-data", "it has none"))
    assert hostile.alter(replies) == replies


@pytest.mark.usefixtures("in_a_run")
def test_without_an_honest_update_there_is_none_to_be_hostile_to() -> None:
    hostile = attackers()
    replies = {name: message(update(0, 3)) for name in hostile.names}
    assert hostile.alter(replies) == replies


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Result]:
    """Run a federation of ten unequal sites on drawn features of ten classes."""
    folder = tmp_path_factory.mktemp("attacked")
    x, y = drawn(np.full(10, 60), np.random.default_rng(0))
    data = write(
        folder / "f.npz", x, {"name": "drawn", "width": 32, "version": "1"}, label=[f"class {k}" for k in y]
    )

    def run(name: str, **settings: Any) -> Result:
        options = {"rounds": 8, "baselines": False, "models": False, "min_images": 5, **settings}
        flat = {key.replace("_", "-"): value for key, value in options.items()}
        paths = {"data": str(data), "out": str(folder / name), "store": str(folder / "store")}
        return simulate(make_config({**paths, **flat}, "test"), QuietDisplay())

    return run


def head(result: Result) -> list[np.ndarray]:
    with np.load(result.folder / "head.npz") as file:
        return [file[f"array_{i}"] for i in range(2)]


@pytest.mark.run
def test_a_run_says_who_attacked_and_what_they_achieved(run: Callable[..., Result]) -> None:
    control = run("control", hostile_sites=2)
    attack = control.summary["attack"]
    assert len(attack["sites"]) == 2
    assert {attack["source"], attack["target"]} < {f"class {k}" for k in range(10)}
    summary = run("planted", hostile_sites=2, attack="backdoor", attack_scale=10.0).summary
    assert summary["sites_left_out"] == {}, "they send the longest update that is let in"
    planted = summary["attack"]
    assert [planted[name] for name in ("sites", "source", "target")] == [
        attack[name] for name in ("sites", "source", "target")
    ]
    assert planted["backdoor"] > attack["backdoor"] + 0.3
    flipped = run("flipped", hostile_sites=2, attack="label-flip", attack_scale=10.0).summary["attack"]
    assert flipped["mistaken"] > attack["mistaken"] + 0.3


@pytest.mark.run
def test_hostile_sites_that_do_nothing_change_no_bit(run: Callable[..., Result]) -> None:
    for one, other in zip(head(run("honest")), head(run("idle", hostile_sites=3)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.run
def test_a_resumed_run_has_the_same_attackers(run: Callable[..., Result], tmp_path: Path) -> None:
    settings = {"hostile_sites": 2, "attack": "backdoor"}
    whole = run("whole", **settings)
    run("half", rounds=4, **settings)
    resumed = run("half", resume=True, **settings)
    assert resumed.summary["attack"] == whole.summary["attack"]
    for one, other in zip(head(whole), head(resumed), strict=True):
        np.testing.assert_array_equal(one, other)
