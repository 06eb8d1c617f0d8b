"""Strategies from outside, FedAvg to the sites: refused where they'd be shown too little."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from drawn_sites import Drawn, assert_same, three_sites

from fedtransfer.common.config.config import RunConfig, make_config
from fedtransfer.common.errors import UserError
from fedtransfer.server.strategies import STRATEGIES, strategy_of, with_strategy
from fedtransfer.server.strategies.fedavg import FEDAVG, combine, start, step
from fedtransfer.server.strategies.strategy import Delta, State, Strategy

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
MODULE = """
from dataclasses import replace
from fedtransfer.server.strategies.fedavg import FEDAVG

SAME = replace(FEDAVG, sum_only=True)
EACH = FEDAVG

def make():
    return FEDAVG

def wants(argument):
    return FEDAVG

class Other:
    pass
"""
PRIVATE = {"classes": "declared", "class_names": "a,b,c", "weighting": "uniform"}
MASKS, DP_SITE, DP_IMAGE = (
    {**PRIVATE, **more}
    for more in ({"masks": True}, {"dp": "site", "epsilon": 8.0}, {"dp": "image", "epsilon": 8.0})
)


@dataclass(frozen=True)
class Halved(Strategy):
    """A subclass with another default."""

    start: Callable[..., State] = start
    combine: Callable[..., Delta] = combine
    step: Callable[..., State] = lambda state, delta, config: step(state, tuple(d / 2 for d in delta), config)


@pytest.fixture
def my_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "my_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_module"
    sys.modules.pop("my_module", None)


@pytest.mark.parametrize("name", ["SAME", "EACH", "make"])
def test_a_name_is_imported(my_module: str, name: str) -> None:
    assert replace(strategy_of(RunConfig(strategy=f"{my_module}:{name}")), sum_only=False) == FEDAVG


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("my_module:gone", "--strategy my_module:gone: cannot be made .* expected module:NAME of a Strategy"),
        ("my_module:wants", "cannot be made .*missing 1 required positional argument"),
        ("my_module:Other", "Other is not a fedtransfer.server.strategies.strategy.Strategy"),
        ("nowhere:X", "cannot be made .*No module named 'nowhere'"),
        ("object:Halved", "passed from Python; resume the run there"),
    ],
)
def test_what_cannot_be_made_is_refused(my_module: str, name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        strategy_of(RunConfig(strategy=name))


@pytest.mark.parametrize(
    "name", ["my module:X", "my_module:", ":X", "my_module:X.y", "../my_module:X", "a:b:c"]
)
def test_a_name_that_is_none_is_refused_by_the_config(name: str) -> None:
    with pytest.raises(UserError, match=r"strategy: got '.*'; expected module:NAME"):
        make_config({"strategy": name}, "options")


def test_the_config_alone_imports_nothing() -> None:
    """A site validates the run's settings, and must not run what a coordinator names in them."""
    config = RunConfig(strategy="this_does_not_exist:X")
    assert config.exchanges == ("fedavg",)
    assert (config.weights_of_sites, config.adaptation_epochs, config.closed_form) == ("examples", 0, False)
    assert config.method.title == "this_does_not_exist:X"
    with pytest.raises(ValueError, match=r"proximal: this_does_not_exist:X does not use it"):
        RunConfig(strategy="this_does_not_exist:X", proximal=0.5)


@pytest.mark.parametrize(("settings", "how"), [(MASKS, "--masks"), (DP_SITE, "--dp site")])
def test_one_total_is_enough_only_if_the_strategy_says_so(my_module: str, settings: dict, how: str) -> None:
    with pytest.raises(
        UserError, match=f"with {how} it receives only the total over all sites.* sum_only=True"
    ):
        strategy_of(RunConfig(strategy=f"{my_module}:EACH", **settings))
    assert strategy_of(RunConfig(strategy=f"{my_module}:SAME", **settings)).sum_only


def test_updates_that_are_private_may_be_used_in_any_way(my_module: str) -> None:
    assert strategy_of(RunConfig(strategy=f"{my_module}:EACH", **DP_IMAGE)) is FEDAVG


def test_a_strategy_of_the_house_is_found_by_its_name() -> None:
    for name, strategy in STRATEGIES.items():
        assert strategy_of(RunConfig(strategy=name)) is strategy


def test_an_object_takes_the_place_of_the_strategy_in_the_settings() -> None:
    config = with_strategy(RunConfig(rounds=7, server_momentum=0.5), Halved())
    assert (config.strategy, config.rounds, config.server_momentum) == ("object:Halved", 7, 0.5)
    assert strategy_of(config, Halved()) == Halved()
    assert with_strategy(config, Halved()) == config
    with pytest.raises(UserError, match="cannot be passed to it as an object"):
        with_strategy(RunConfig(engine="deployment"), Halved())


@pytest.mark.parametrize(
    "settings", [{}, {"dp": "site", "noise_multiplier": 0.3, **PRIVATE}], ids=["plain", "dp"]
)
def test_a_run_with_fedavg_from_outside_has_the_bits_of_fedavg(
    tmp_path: Path, my_module: str, settings: dict[str, object]
) -> None:
    heads = []
    for name in ("fedavg", f"{my_module}:SAME"):
        run = Drawn(three_sites(), tmp_path / name)
        heads.append(run.run(strategy=name, rng=np.random.default_rng(1), **settings).progress.state.head)
    assert_same(*heads)


def test_the_example_leaves_entries_in_dispute_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedtransfer.server.strategies.strategy import Contribution

    monkeypatch.syspath_prepend(EXAMPLES)
    config = RunConfig(strategy="my_own_strategy:AGREEMENT")
    updates = [[1.0, 3.0, -1.0], [2.0, -1.0, -1.0], [3.0, -1.0, -1.0], [2.0, 1.0, 1.0]]
    contributions = [Contribution((np.array(values, np.float32),), 1) for values in updates]
    np.testing.assert_array_equal(strategy_of(config).combine(contributions, config)[0], [2.0, 0.0, -0.5])
