"""One step of the server: what a strategy makes of a round, or why it makes nothing."""

from dataclasses import replace

import numpy as np
import pytest

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.server.strategies import STRATEGIES
from fedtransfer.server.strategies.strategy import Contribution, State, next_head

HEAD = (np.zeros((2, 3), np.float32), np.zeros(3, np.float32))
PLAIN = RunConfig(server_learning_rate=1.0, server_momentum=0.0)
FEDAVG = STRATEGIES["fedavg"]


def filled(value: float, weight: float) -> Contribution:
    return Contribution(tuple(np.full(array.shape, value, np.float32) for array in HEAD), weight)


def test_a_step_is_the_strategys_of_the_combined_update() -> None:
    state = next_head(FEDAVG, FEDAVG.start(HEAD, PLAIN), [filled(2.0, 1), filled(4.0, 2)], PLAIN)
    for moved, before in zip(state.head, HEAD, strict=True):
        np.testing.assert_array_equal(moved, np.full(before.shape, 2.0, np.float32))


def test_a_round_of_nobody_changes_nothing() -> None:
    first = FEDAVG.start(HEAD, PLAIN)
    state = next_head(FEDAVG, first, [], PLAIN)
    assert state is first


@pytest.mark.parametrize("name", ["fedavg", "fedadam"])
def test_what_would_overflow_is_refused(name: str) -> None:
    """FedAdam's head stays finite for a round, but its second moments do not."""
    strategy, config = STRATEGIES[name], RunConfig(strategy=name, server_learning_rate=1e3)
    wild = Contribution(tuple(np.full(array.shape, 1e200) for array in HEAD), 1)
    with pytest.raises(
        OverflowError, match=r"the head would overflow; lower the learning rates, or set --max-update-"
    ):
        next_head(strategy, strategy.start(HEAD, config), [wild], config)


def test_a_strategy_that_returns_another_kind_of_head_is_refused() -> None:
    wide = replace(FEDAVG, step=lambda state, delta, config: State(delta, {}))
    with pytest.raises(UserError, match=r"its step returned a head of .*float64.*; expected .*float32"):
        next_head(wide, FEDAVG.start(HEAD, PLAIN), [filled(1.0, 1)], PLAIN)
