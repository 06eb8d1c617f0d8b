"""The ServerApp over real sites."""

import gc
import weakref
from pathlib import Path

import pytest

from fedtransfer.client.app import app as client_app
from fedtransfer.common.config.config import RunConfig
from fedtransfer.server.app import make_app
from fedtransfer.server.callbacks import Callback, Round
from fedtransfer.simulations.engines.inprocess import SimulatedSite, run_in_process


@pytest.mark.run
def test_replies_are_let_go_after_their_round(folder_of_classes, tmp_path: Path) -> None:
    """Memory must not grow with sites times rounds: a reply weighs as much as a head."""
    data = folder_of_classes(12)
    config = RunConfig(sites=2, rounds=8, out=str(tmp_path / "run"))
    sites = [
        SimulatedSite(name, {"data": str(data), "state": str(tmp_path / name)}) for name in ("anna", "bert")
    ]
    replies: list[weakref.ref] = []
    alive: list[int] = []

    class Watch(Callback):
        def on_round(self, record: Round) -> None:
            gc.collect()
            alive.append(sum(reply() is not None for reply in replies))
            replies.extend(weakref.ref(scores) for scores in record.answers.values())

    run_in_process(make_app([Watch()]), client_app, sites, config.to_flat(), 1)
    assert len(replies) == 2 * 9
    assert max(alive) <= 2, "at most those of the round before"
