"""What the supervisor does for a run, step by step, with a SuperLink that the test answers for."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.server.deployment import supervisor
from fedtransfer.server.deployment.certificates import issue_server_certificate
from fedtransfer.server.deployment.coordinator import Coordinator, Settings
from fedtransfer.server.deployment.current import Current, read_current, write_current
from fedtransfer.server.deployment.founding import found_coordinator
from fedtransfer.server.deployment.superlink import RunStatus
from fedtransfer.server.deployment.supervisor import IDLE_SUBMISSIONS, attend

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


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
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
def test_it_is_given_up_after_some_tries_without_a_new_checkpoint(
    coordinator: Coordinator, answer: RunStatus | None
) -> None:
    link = Link()
    for number in range(20):
        if number == 5:
            checkpoint(coordinator, 1)  # progress: the count begins anew
        if step(coordinator, link, answer).status == "failed":
            break
    assert len(link.submitted) == 3 + IDLE_SUBMISSIONS
    current = read_current(coordinator)
    assert current
    assert current.why in ("No heartbeat received from the task", "SuperLink no longer knows it")


def test_what_the_serverapp_says_is_final(coordinator: Coordinator) -> None:
    link = Link()
    step(coordinator, link)
    current = step(coordinator, link, SAID)
    assert (current.status, current.why) == ("failed", "round 3: 1 of 4 sites gave a usable answer")
    assert len(link.submitted) == 1


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

        def nodes(self) -> list[object]:
            return []

    link = Strict(answer)
    current = read_current(coordinator)
    assert current
    current.status, current.submissions = "running", [7]
    write_current(coordinator, current)
    for name in ("server.crt", "ca.crt"):
        (coordinator.certificates / name).touch()
    monkeypatch.setattr(supervisor, "connect", lambda folder: nullcontext(link))
    monkeypatch.setattr(supervisor, "is_serving", lambda address: True)
    monkeypatch.setattr(supervisor, "start_superlink", lambda folder: None)
    watcher = supervisor._Supervisor(coordinator, lambda line: None)
    watcher.bring_up()
    attend(coordinator, link, lambda line: None)  # type: ignore[arg-type]
    current = read_current(coordinator)
    assert current
    assert (current.status, link.stopped) == (status, stopped)


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
