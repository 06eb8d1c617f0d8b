"""What the supervisor does for a run, step by step, with a SuperLink that the test answers for."""

import errno
import os
import sqlite3
import time
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from filelock import FileLock

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.support import files
from fedtransfer.common.support.condition import read_condition
from fedtransfer.server.deployment import submission, supervisor
from fedtransfer.server.deployment.certificates import issue_server_certificate, make_authority
from fedtransfer.server.deployment.coordinator import Coordinator, Settings
from fedtransfer.server.deployment.current import Current, read_current, write_current
from fedtransfer.server.deployment.database import set_aside_damaged
from fedtransfer.server.deployment.founding import found_coordinator
from fedtransfer.server.deployment.submission import (
    IDLE_SECONDS,
    IDLE_SUBMISSIONS,
    LONGEST_PAUSE,
    attend,
)
from fedtransfer.server.deployment.superlink import NoAnswer, RunStatus, Unavailable

RUNNING, DONE = RunStatus("running", "", ""), RunStatus("finished", "completed", "")
DIED = RunStatus("finished", "failed", "No heartbeat received from the task")
SAID = RunStatus(
    "finished", "failed", "ServerApp failed with exception: round 3: 1 of 4 sites gave a usable answer"
)


@dataclass
class Link:
    """A SuperLink that says what the test wants."""

    answer: RunStatus | None = RUNNING
    submitted: list[RunConfig] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)

    def submit(self, config: RunConfig) -> int:
        self.submitted.append(config)
        return len(self.submitted)

    def run(self, run_id: int) -> RunStatus | None:
        return self.answer

    def stop(self, run_id: int) -> None:
        self.stopped.append(run_id)

    def nodes(self) -> list[object]:
        return []


@pytest.fixture
def coordinator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Coordinator:
    monkeypatch.setattr(submission, "PAUSE_SECONDS", 0.0)
    made = Coordinator.create(tmp_path / "coordinator", Settings.model_validate({"hosts": ["localhost"]}))
    write_current(made, Current("one", RunConfig(out=str(made.folder / "runs" / "one")).to_flat()))
    return made


def step(coordinator: Coordinator, link: Link, answer: RunStatus | None = RUNNING) -> Current:
    link.answer = answer
    attend(coordinator, link, lambda line: None)  # type: ignore[arg-type]
    current = read_current(coordinator)
    assert current
    return current


def checkpoint(coordinator: Coordinator, number: int) -> None:
    folder = coordinator.folder / "runs" / "one" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"round-{number:06}.0123456789abcdef.npz").touch()
    (folder.parent / "config.toml").touch()


def test_a_run_is_submitted_watched_and_finished(coordinator: Coordinator) -> None:
    link = Link()
    assert step(coordinator, link).status == "running"
    assert step(coordinator, link).status == "running"
    assert [config.resume for config in link.submitted] == [False]
    assert step(coordinator, link, DONE).status == "finished"
    step(coordinator, link, DONE)
    assert len(link.submitted) == 1


def test_a_run_whose_process_died_goes_on_from_its_checkpoint(coordinator: Coordinator) -> None:
    link = Link()
    step(coordinator, link)
    checkpoint(coordinator, 3)
    assert step(coordinator, link, DIED).status == "wanted"
    assert step(coordinator, link).status == "running"
    assert [config.resume for config in link.submitted] == [False, True]


@pytest.mark.parametrize("answer", [DIED, None])
def test_a_run_without_any_checkpoint_is_given_up_after_some_tries(
    coordinator: Coordinator, answer: RunStatus | None
) -> None:
    link = Link()
    while step(coordinator, link, answer).status != "failed":
        assert len(link.submitted) <= IDLE_SUBMISSIONS
    assert len(link.submitted) == IDLE_SUBMISSIONS
    current = read_current(coordinator)
    assert current
    assert current.why in ("No heartbeat received from the task", "SuperLink no longer knows it")


def test_what_the_serverapp_says_before_the_first_checkpoint_is_final(coordinator: Coordinator) -> None:
    link = Link()
    step(coordinator, link)
    current = step(coordinator, link, SAID)
    assert (current.status, current.why) == ("failed", "round 3: 1 of 4 sites gave a usable answer")
    assert len(link.submitted) == 1


@dataclass
class Clock:
    """The time of day, for a test that has no hour to wait."""

    now: float = field(default_factory=time.time)

    def time(self) -> float:
        return self.now


@pytest.mark.parametrize("answer", [DIED, SAID])
def test_a_run_that_had_come_so_far_is_tried_for_long_after_pauses_that_grow(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch, answer: RunStatus
) -> None:
    clock, hour = Clock(), 3600.0
    assert 24 * hour == IDLE_SECONDS
    monkeypatch.setattr(submission, "time", clock)
    monkeypatch.setattr(submission, "IDLE_SECONDS", hour)
    monkeypatch.setattr(submission, "PAUSE_SECONDS", 5.0)
    link, began, times = Link(), clock.now, list[float]()
    step(coordinator, link)
    checkpoint(coordinator, 3)
    while (current := step(coordinator, link, answer)).status != "failed":
        if len(link.submitted) > len(times):
            times.append(clock.now - began)
        clock.now = max(clock.now + 1, current.not_before)
    pauses = [after - before for before, after in pairwise(times)]
    assert pauses == sorted(pauses)
    assert pauses[3] < pauses[5] < pauses[7] < LONGEST_PAUSE + 5
    assert hour - LONGEST_PAUSE < times[-1] < hour + LONGEST_PAUSE


def test_a_private_run_is_not_tried_for_long_because_each_try_is_charged(coordinator: Coordinator) -> None:
    settings = {"dp": "site", "noise_multiplier": 1.0, "classes": "declared", "class_names": "a,b"}
    config = RunConfig(out=str(coordinator.folder / "runs" / "one"), weighting="uniform", **settings)
    write_current(coordinator, Current("one", config.to_flat()))
    link = Link()
    step(coordinator, link)
    checkpoint(coordinator, 3)
    assert step(coordinator, link, SAID).status == "failed"


@pytest.mark.parametrize(
    "reason",
    [
        "checkpoint round-000004: No space left on device; the last whole one is round-000003",
        "Server error '500 Internal Server Error' for url 'https://127.0.0.1:9092/v1/runtime/pull-messages'",
    ],
)
def test_a_reason_that_may_pass_is_not_final(coordinator: Coordinator, reason: str) -> None:
    link = Link()
    step(coordinator, link)
    said = RunStatus("finished", "failed", f"ServerApp failed with exception: {reason}")
    assert step(coordinator, link, said).status == "wanted"
    assert step(coordinator, link).status == "running"


def test_submissions_without_a_new_checkpoint_are_made_after_growing_pauses(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "PAUSE_SECONDS", 60.0)
    link = Link()
    step(coordinator, link)
    before = step(coordinator, link, DIED)
    assert before.not_before > time.time() + 50
    assert step(coordinator, link).status == "wanted"
    assert len(link.submitted) == 1


def test_a_run_waits_for_room_on_the_disk(coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link()
    with monkeypatch.context() as patch:
        patch.setattr(files, "LEAST_FREE_BYTES", 10**18)
        with pytest.raises(Unavailable, match=r"run one waits: the disk of .* is full: .*; make room"):
            step(coordinator, link)
    assert link.submitted == []
    assert step(coordinator, link).status == "running"


def test_a_run_waits_for_a_superlink_in_trouble(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(config: RunConfig) -> int:
        raise Unavailable("SuperLink refused: HTTP 500")

    link = Link()
    with monkeypatch.context() as patch:
        patch.setattr(link, "submit", refuse)
        with pytest.raises(Unavailable):
            step(coordinator, link)
    assert step(coordinator, link).status == "running"


def test_a_damaged_record_of_the_run_is_refused_in_words(coordinator: Coordinator) -> None:
    (coordinator.state / "run.json").write_text('{"name": "on')
    with pytest.raises(UserError, match=r"run\.json: damaged .* server run --resume NAME"):
        read_current(coordinator)


def test_it_waits_until_the_process_before_has_let_go_of_the_folder(coordinator: Coordinator) -> None:
    link = Link()
    checkpoint(coordinator, 1)
    with FileLock(coordinator.folder / "runs" / "one" / "checkpoints" / ".lock"):
        # Another process would hold it; in one process a lock is held by object: the same here.
        assert step(coordinator, link).status == "wanted"
    assert step(coordinator, link).status == "running"


def test_a_run_is_stopped_when_that_is_wanted(coordinator: Coordinator) -> None:
    link = Link()
    current = step(coordinator, link)
    current.status = "stopping"
    write_current(coordinator, current)
    assert step(coordinator, link).status == "stopped"
    assert link.stopped == [1]
    step(coordinator, link, DIED)
    assert len(link.submitted) == 1, "and not taken up again"


def test_a_run_that_cannot_be_submitted_has_failed(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(config: RunConfig) -> int:
        raise UserError("SuperLink started no run")

    link = Link()
    monkeypatch.setattr(link, "submit", refuse)
    current = step(coordinator, link)
    assert (current.status, current.why) == ("failed", "SuperLink started no run")


@pytest.mark.parametrize(
    ("answer", "status", "stopped"),
    [(RUNNING, "running", [7]), (DONE, "finished", []), (DIED, "wanted", []), (None, "wanted", [])],
)  # fmt: skip
def test_after_any_outage_the_coordinator_comes_back(
    coordinator: Coordinator,
    monkeypatch: pytest.MonkeyPatch,
    answer: RunStatus | None,
    status: str,
    stopped: list[int],
) -> None:
    """Flower takes no order to stop a run that it has meanwhile given up, or finished."""

    class Strict(Link):
        def stop(self, run_id: int) -> None:
            if self.answer is None or self.answer.status == "finished":
                raise UserError("SuperLink refused: the run has finished")
            super().stop(run_id)

    link = Strict(answer)
    current = read_current(coordinator)
    assert current
    current.status, current.submissions = "running", [7]
    write_current(coordinator, current)
    make_authority(coordinator.certificates, "a federation")
    issue_server_certificate(coordinator.certificates, ["localhost"])
    monkeypatch.setattr(supervisor, "connect", lambda folder: nullcontext(link))
    monkeypatch.setattr(supervisor, "is_serving", lambda address: True)
    monkeypatch.setattr(supervisor, "start_superlink", lambda folder: None)
    watcher = supervisor._Supervisor(coordinator, lambda line: None)
    watcher.bring_up()
    attend(coordinator, link, lambda line: None)  # type: ignore[arg-type]
    current = read_current(coordinator)
    assert current
    assert (current.status, link.stopped) == (status, stopped)


class Process:
    """A SuperLink that runs until it is ended."""

    returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode

    def terminate(self) -> None:
        self.returncode = -15

    def wait(self, seconds: float = 0) -> None:
        pass


@pytest.fixture
def supervised(coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch):
    """Supervise a SuperLink that the test answers for; return supervisor, link, reports."""
    (coordinator.state / "run.json").unlink()
    make_authority(coordinator.certificates, "a federation")
    issue_server_certificate(coordinator.certificates, ["localhost"])
    link, reports, starts = Link(), [], []

    def start(folder: Coordinator) -> Process:
        starts.append(Process())
        return starts[-1]

    monkeypatch.setattr(supervisor, "connect", lambda folder: nullcontext(link))
    monkeypatch.setattr(supervisor, "is_serving", lambda address: True)
    monkeypatch.setattr(supervisor, "start_superlink", start)
    monkeypatch.setattr(supervisor, "TICK_SECONDS", 0.0)
    monkeypatch.setattr(supervisor, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(supervisor, "PAUSE_SECONDS", (0.0, 0.0))
    watcher = supervisor._Supervisor(coordinator, reports.append)
    watcher.bring_up()
    return watcher, link, reports, starts


def condition(coordinator: Coordinator) -> tuple[bool, str]:
    record = read_condition(coordinator.condition)
    assert record
    return record.up, record.why


def test_a_superlink_that_does_not_answer_is_started_again(
    supervised, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher, link, reports, starts = supervised

    def silent() -> list[object]:
        raise NoAnswer("SuperLink does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(link, "nodes", silent)
        for _ in range(5):
            watcher.supervise_once()
        assert len(starts) == 1, "it has a minute"
        assert condition(coordinator) == (False, "SuperLink does not answer")
        assert reports.count("warning: SuperLink does not answer") == 1
        patch.setattr(supervisor, "SILENT_SECONDS", 0.0)
        watcher.supervise_once()
    watcher.supervise_once()
    watcher.supervise_once()
    assert len(starts) == 2
    assert starts[0].returncode == -15
    assert condition(coordinator) == (True, "")


def test_a_superlink_with_errors_lives(supervised, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher, link, _, starts = supervised

    def in_trouble() -> list[object]:
        raise Unavailable("SuperLink refused: HTTP 500")

    monkeypatch.setattr(link, "nodes", in_trouble)
    monkeypatch.setattr(supervisor, "SILENT_SECONDS", 0.0)
    for _ in range(5):
        watcher.supervise_once()
    assert len(starts) == 1
    monkeypatch.setattr(supervisor, "FAILING_SECONDS", 0.0)
    watcher.supervise_once()
    assert starts[0].returncode == -15, "nothing but errors for minutes: its database may be damaged"


def test_sites_are_enrolled_in_each_superlink_that_comes_up(
    supervised, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its database may be a new one, in place of one that was damaged."""
    watcher, _, _, starts = supervised
    times = []
    monkeypatch.setattr(supervisor, "synchronise", lambda coordinator, link: times.append(len(starts)))
    (coordinator.folder / "sites").mkdir(exist_ok=True)
    (coordinator.folder / "sites" / "anna.pub").write_text("a key")
    for _ in range(3):
        watcher.supervise_once()
    assert times == [1]
    starts[0].returncode = 1
    for _ in range(3):
        watcher.supervise_once()
    assert times == [1, 2]


def test_a_superlink_that_died_is_started_until_it_comes_up(
    supervised, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher, _, reports, starts = supervised
    starts[0].returncode = 1

    def full(folder: Coordinator) -> Process:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(supervisor, "start_superlink", full)
        for _ in range(5):
            watcher.supervise_once()
    assert len([line for line in reports if "No space left" in line]) == 1
    assert not condition(coordinator)[0]
    watcher.supervise_once()
    watcher.supervise_once()
    assert len(starts) == 2
    assert condition(coordinator) == (True, "")


def test_a_report_that_finds_no_room_ends_nothing(supervised, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(line: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    watcher, _, _, starts = supervised
    monkeypatch.setattr(watcher, "_report", refuse)
    starts[0].returncode = 1
    for _ in range(3):
        watcher.supervise_once()
    assert len(starts) == 2


def test_a_run_waits_for_no_renewal_when_the_certificate_ends(supervised, coordinator: Coordinator) -> None:
    """Else no site would connect, and the run would never end."""
    watcher, link, _, starts = supervised
    run = Current("one", RunConfig(out=str(coordinator.folder / "runs" / "one")).to_flat(), "running")
    run.submissions = [1]
    write_current(coordinator, run)
    issue_server_certificate(coordinator.certificates, ["localhost"])
    for _ in range(3):
        watcher.supervise_once()
    assert len(starts) == 1, "the one in use is valid for a year"
    watcher._expiry = datetime.now(UTC) - timedelta(minutes=1)
    for _ in range(3):
        watcher.supervise_once()
    assert len(starts) == 2
    assert link.stopped == [1]
    assert len(link.submitted) == 1


def test_a_damaged_database_is_set_aside(coordinator: Coordinator) -> None:
    path = coordinator.state / "superlink.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE node (id)")
    assert list(set_aside_damaged(path)) == []
    path.write_bytes(b"no database" * 1000)
    [sentence] = set_aside_damaged(path)
    assert "superlink.db: damaged (file is not a database)" in sentence
    assert not path.exists()
    assert len(list(coordinator.state.glob("superlink.db.damaged-*"))) == 1
    assert list(set_aside_damaged(path)) == []


def test_an_expired_certificate_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = found_coordinator(
        tmp_path / "coordinator", ["localhost"], port=9443, superlink_port=1, health_port=2, user=""
    )
    issue_server_certificate(
        folder.certificates,
        ["localhost"],
        1,
        now=datetime.now(UTC) - timedelta(days=3),
        key_file=folder.authority_key,
    )
    monkeypatch.setattr(supervisor, "start_superlink", lambda folder: pytest.fail("SuperLink was started"))
    with pytest.raises(UserError, match=r"expired.*fedtransfer server renew"):
        supervisor.supervise(folder, print)
    assert not (folder.state / "pid").exists()


def test_a_superlink_that_does_not_start_names_its_ports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended:
        returncode = 1

        def poll(self) -> int:
            return self.returncode

    folder = found_coordinator(
        tmp_path / "coordinator", ["localhost"], port=9443, superlink_port=7071, health_port=7072, user=""
    )
    folder.state.mkdir(exist_ok=True)
    (folder.state / "superlink.log").write_text("of an earlier start\n")
    monkeypatch.setattr(supervisor, "start_superlink", lambda folder: Ended())
    monkeypatch.setattr(supervisor, "is_serving", lambda address: False)
    with pytest.raises(UserError) as error:
        supervisor._Supervisor(folder, print).bring_up()
    for fact in ("7071", "7072", "exit status 1"):
        assert fact in str(error.value)
    assert "earlier" not in str(error.value)
