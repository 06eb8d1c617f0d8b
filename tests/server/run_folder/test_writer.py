"""Checkpoints that are written while the run goes on: order, errors, and kills in between."""

import errno
import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from drawn_sites import Drawn, Stopped, assert_same, three_sites
from waiting import wait_until

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.wire.protocol import Task
from fedtransfer.server.callbacks import Callback
from fedtransfer.server.privacy.ledger import RunLedger
from fedtransfer.server.rounds.progress import Progress
from fedtransfer.server.run_folder.checkpoint import Checkpoints, Writer
from fedtransfer.server.strategies.strategy import State

DATA = three_sites()


def progress(round: int) -> Progress:
    return replace(Progress.begin(State((np.full(3, round, np.float32),), {})), round=round)


@dataclass(frozen=True)
class Slow(Checkpoints):
    """Checkpoints on a disk that takes as long as the test says."""

    let: Event = field(default_factory=Event)
    events: list[str] = field(default_factory=list)

    def write(self, round: int, content: Mapping[str, Any]) -> None:
        self.events.append(f"begin {round}")
        self.let.wait()
        super().write(round, content)
        self.events.append(f"end {round}")


@pytest.fixture
def slow(tmp_path: Path) -> Slow:
    return Slow(tmp_path / "checkpoints", RunConfig(), "f" * 64, ("a", "b", "c"))


def full(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_run_goes_on_while_a_checkpoint_is_written_and_waits_for_it_before_the_next(slow: Slow) -> None:
    with Writer(slow, lambda: slow.events.append("history")) as writer, ThreadPoolExecutor() as other:
        writer.save(progress(1))  # returns before it is written
        wait_until(lambda: len(slow.events) == 2, "the first is being written")
        following = other.submit(writer.save, progress(2))
        assert not following.done()
        assert slow.events == ["history", "begin 1"]
        slow.let.set()
        following.result()
    assert slow.events == ["history", "begin 1", "end 1", "history", "begin 2", "end 2"]
    assert slow.latest().round == 2


def test_flush_returns_once_it_is_on_the_disk(slow: Slow) -> None:
    with Writer(slow) as writer, ThreadPoolExecutor() as other:
        writer.flush()  # nothing to write
        writer.save(progress(1))
        flushed = other.submit(writer.flush)
        assert not flushed.done()
        slow.let.set()
        flushed.result()
        assert slow.latest().round == 1


def test_what_becomes_of_the_arrays_afterwards_is_in_no_checkpoint(slow: Slow) -> None:
    """A strategy from outside may change its arrays in place."""
    with Writer(slow) as writer:
        writer.save(changing := progress(1))
        changing.state.head[0][:] = 7
        slow.let.set()
    assert slow.latest().state.head[0].tolist() == [1, 1, 1]


@pytest.mark.parametrize("when", ["next", "flush", "end"])
def test_a_checkpoint_that_cannot_be_written_stops_the_run(
    slow: Slow, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow.let.set()
    slow.save(progress(4))
    monkeypatch.setattr(os, "fsync", full)

    def run() -> None:
        with Writer(slow) as writer:
            writer.save(progress(5))
            if when != "end":
                writer.save(progress(6)) if when == "next" else writer.flush()
                pytest.fail("the error came too late")

    with pytest.raises(UserError, match=r"round-000005.*No space left on device; .* round-000004"):
        run()
    assert slow.latest().round == 4


def test_an_error_of_the_run_goes_before_that_of_its_last_checkpoint(
    slow: Slow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slow.let.set()
    monkeypatch.setattr(os, "fsync", full)

    def run() -> None:
        with Writer(slow) as writer:
            writer.save(progress(5))
            raise KeyboardInterrupt

    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        run()
    assert "round-000005" in caplog.text


def test_the_last_checkpoint_is_on_the_disk_whatever_ends_a_run(tmp_path: Path) -> None:
    run = Drawn(DATA, tmp_path)
    with pytest.raises(Stopped):
        run.run(stop_after=2, rounds=6)
    assert [path.name[:12] for path in sorted((tmp_path / "checkpoints").glob("round-*"))] == [
        "round-000001",
        "round-000002",
    ]


def test_a_checkpoint_comes_after_what_callbacks_wrote_of_its_round(tmp_path: Path) -> None:
    events: list[str] = []

    class Watch(Callback):
        def flush(self) -> None:
            events.append(f"flush after {len(list((tmp_path / 'checkpoints').glob('round-*')))}")

    Drawn(DATA, tmp_path).run(Watch(), rounds=2)
    assert events == ["flush after 0", "flush after 1"]


def test_a_run_that_spends_privacy_charges_no_round_before_the_last_one_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round that was paid for and is lost is paid for twice."""
    events: list[str] = []

    def noted(what: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, round: int, *content: Any) -> None:
            method(self, round, *content)
            events.append(f"{what} {round}")

        return call

    monkeypatch.setattr(Checkpoints, "write", noted("written", Checkpoints.write))
    monkeypatch.setattr(RunLedger, "charge", noted("charged", RunLedger.charge))
    Drawn(DATA, tmp_path).run(
        rounds=3, dp="site", noise_multiplier=1.0, weighting="uniform", sampling="poisson", fraction=0.5,
        classes="declared", class_names="a,b,c",
    )  # fmt: skip
    assert events == [f"{what} {round}" for round in (1, 2, 3) for what in ("charged", "written")]


@pytest.mark.parametrize("strategy", ["fedavg", "fedadam", "scaffold"])
@pytest.mark.parametrize("cohort", [{}, {"cohort_size": 2}])
@pytest.mark.parametrize("lost", [2, 4])
def test_a_run_killed_before_a_checkpoint_was_written_ends_with_the_same_bits(
    tmp_path: Path, strategy: str, cohort: dict[str, Any], lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sites have trained the round after it, and scaffold's have kept their state of that too."""
    how = {"strategy": strategy, "rounds": 6, "local_epochs": 2, **cohort}
    expected = Drawn(DATA, tmp_path / "whole").run(**how)
    write = Checkpoints.write

    def killed(self: Checkpoints, round: int, content: Mapping[str, Any]) -> None:
        if round < lost:
            write(self, round, content)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "write", killed)
        with pytest.raises(Stopped):
            Drawn(DATA, tmp_path / "run").run(stop_after=lost, **how)
    resumed = Drawn(DATA, tmp_path / "run")
    outcome = resumed.run(**how, resume=True)
    assert resumed.requests(Task)[0].round == lost
    assert not any(record.refused for record in resumed.records)
    assert_same(outcome.progress.state.head, expected.progress.state.head)
    for name, slot in expected.progress.state.slots.items():
        assert_same(outcome.progress.state.slots[name], slot)
    assert outcome.progress.counted == expected.progress.counted
