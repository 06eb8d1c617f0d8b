"""What the soak would notice."""

import re
from pathlib import Path

import pytest
from deployment.soak import SETTINGS, features
from deployment.soak_report import HOSTILE, Outcome, check
from flwr.app import Context, Message

from fedtransfer.client.app import app as client_app
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import SiteError
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.protocol import TRAIN, Task
from fedtransfer.server.app import make_app
from fedtransfer.simulations.engines.inprocess import SimulatedSite, run_in_process


@pytest.mark.full
def test_a_head_that_does_not_follow_from_what_was_admitted_is_noticed(tmp_path: Path) -> None:
    data = features(tmp_path / "data")

    def answer(message: Message, context: Context) -> Message:
        if message.metadata.message_type == TRAIN:
            task = wire.unpack(message.content, Task)
            if task.site in HOSTILE or (task.site == "north" and task.round in (2, 4)):
                return Message(wire.pack(SiteError("sulk", "not this time")), reply_to=message)
        return client_app(message, context)

    sites = [
        SimulatedSite(name, {"data": str(file), "state": str(tmp_path / name)}) for name, file in data.items()
    ]
    out, rounds = tmp_path / "run", 5
    config = RunConfig(
        data="drawn",
        backbone=SETTINGS["backbone"],
        sites=len(sites),
        rounds=rounds,
        out=str(out),
        models=False,
    )
    run_in_process(make_app(), answer, sites, config.to_flat(), 2)  # type: ignore[arg-type]

    sound = Outcome(seed=0)
    check(out, rounds, data, tmp_path / "replay", sound)
    assert sound.failures == []
    assert {site: set(reasons) for site, reasons in sound.reasons.items()} == {
        site: {"sulk: not this time"} for site in HOSTILE
    }

    table = out / "sites.csv"
    table.write_text(re.sub(r"(?m)^3,1,south,ok,", "3,1,south,lost,", table.read_text("utf-8")), "utf-8")
    lost = Outcome(seed=0)
    check(out, rounds, data, tmp_path / "another replay", lost)
    assert "run: last-head.npz does not follow from what was admitted" in lost.failures
