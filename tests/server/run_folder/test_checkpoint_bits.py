"""What strategies remember has the same bits after a checkpoint, and so has the next round."""

from dataclasses import replace

import numpy as np
import pytest

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.methods import METHODS, ONE_SHOT
from fedtransfer.server.rounds.progress import Progress
from fedtransfer.server.run_folder.checkpoint import Checkpoints
from fedtransfer.server.strategies import STRATEGIES
from fedtransfer.server.strategies.strategy import Arrays, Contribution, Delta, State

HEAD = (np.zeros((4, 3), np.float32), np.zeros(3, np.float32))
OF_ROUNDS = [name for name in METHODS if name not in ONE_SHOT]


def update(name: str, config: RunConfig, head: Arrays, round: int) -> Delta:
    """Combine drawn updates of five sites."""
    rng = np.random.default_rng(round)

    def drawn() -> Arrays:
        return tuple(rng.normal(size=array.shape).astype(np.float32) for array in head)

    control = name == "scaffold"
    return STRATEGIES[name].combine(
        [Contribution(drawn(), int(n), drawn() if control else ()) for n in rng.integers(1, 99, 5)], config
    )


def bits(progress: Progress) -> dict[str, list[tuple[np.dtype, tuple[int, ...], bytes]]]:
    """Return every array of a progress with its type and its bits."""
    groups = {"head": progress.state.head, "best": progress.best.head, **progress.arrays}
    groups |= {f"slot {name}": slot for name, slot in progress.state.slots.items()}
    return {name: [(a.dtype, a.shape, a.tobytes()) for a in arrays] for name, arrays in groups.items()}


def scalars(progress: Progress) -> Progress:
    return replace(progress, state=State((), {}), best=replace(progress.best, head=()), arrays={})


@pytest.mark.parametrize("name", OF_ROUNDS)
def test_a_round_after_a_checkpoint_has_the_bits_of_one_without(tmp_path_factory, name: str) -> None:
    config = RunConfig(strategy=name, sites=5)
    checkpoints = Checkpoints(tmp_path_factory.mktemp("c"), config, "f" * 64, ("a", "b", "c"))
    strategy = STRATEGIES[name]
    straight = resumed = Progress.begin(strategy.start(HEAD, config), run="0123456789abcdef")
    for round in range(1, 5):
        delta = update(name, config, HEAD, round)
        straight = replace(straight, round=round, state=strategy.step(straight.state, delta, config))
        resumed = replace(resumed, round=round, state=strategy.step(resumed.state, delta, config))
        checkpoints.save(resumed)
        found = checkpoints.latest()
        assert found is not None
        resumed = found
        assert bits(resumed) == bits(straight)
        assert scalars(resumed) == scalars(straight)
