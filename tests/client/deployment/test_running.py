"""What watches over a site's processes: what dies, is confused or silent is started again."""

import errno
import os
import subprocess
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from waiting import wait_until

from fedtransfer.client.deployment import running
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.condition import ConditionFile, read_condition


class Coordinator:
    """What the coordinator says of the site."""

    enrolled = True
    died = False
    error: Exception | None = None  # of the way to it

    def is_enrolled(self) -> bool:
        if self.error:
            raise self.error
        return self.enrolled

    def end_last_session(self) -> bool:
        return self.died


pytestmark = pytest.mark.process


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Watch over real processes that do nothing; return watcher, its words and the coordinator."""
    (tmp_path / "state").mkdir()
    (tmp_path / "site.toml").write_text('name = "a"\ncoordinator = "localhost:1"\ndata = "images"\n')
    coordinator, told = Coordinator(), []

    def idle(*_: object) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(["sleep", "infinity"])

    @contextmanager
    def connect(site: SiteFolder):
        yield coordinator

    def start_supernode(site: SiteFolder) -> dict[str, "subprocess.Popen[bytes]"]:
        (site.state / "supernode.log").open("ab").write(b"SuperNode ID: 1\n")
        ConditionFile(site.connection).up({})
        return {"supernode": idle(), "superexec": idle()}

    for name, value in {
        "connect": connect, "start_supernode": start_supernode, "processes.spawn": idle,
        "worker_status": lambda site: {}, "PAUSE_SECONDS": (0.01, 0.02), "NOTICE_SECONDS": 0.0,
    }.items():  # fmt: skip
        monkeypatch.setattr(f"{running.__name__}.{name}", value)
    watcher = running._Supervisor(SiteFolder.open(tmp_path), told.append)
    watcher.start_worker()
    watcher.start_supernode()
    yield watcher, told, coordinator
    watcher.end("supernode", "superexec", "worker")


def supervise(watcher: running._Supervisor, until: Callable[[], object], event: str) -> None:
    """Supervise, as the loop does, until an event."""

    def once() -> object:
        watcher.supervise_once()
        return until()

    wait_until(once, event, seconds=20)


def is_whole(watcher: running._Supervisor) -> bool:
    return len(watcher._processes) == 3 and all(p.poll() is None for p in watcher._processes.values())


def why(tmp_path: Path) -> str:
    condition = read_condition(tmp_path / "state" / "connection.json")
    return "" if condition is None or condition.up else condition.why


def pids(watcher: running._Supervisor) -> dict[str, int]:
    return {name: process.pid for name, process in watcher._processes.items()}


def test_nothing_is_done_while_all_is_well(watched) -> None:
    watcher, told, _ = watched
    before, said = pids(watcher), len(told)
    watcher.supervise_once()
    assert (pids(watcher), len(told)) == (before, said)


@pytest.mark.parametrize(
    ("dies", "anew"),
    [("worker", {"worker"}), ("supernode", {"supernode", "superexec"}),
     ("superexec", {"supernode", "superexec"})],
)  # fmt: skip
def test_what_dies_is_started_again(watched, dies: str, anew: set[str]) -> None:
    watcher, told, _ = watched
    before = pids(watcher)
    watcher._processes[dies].kill()
    watcher._processes[dies].wait()
    watcher.supervise_once()
    supervise(watcher, lambda: is_whole(watcher), "all run again")
    assert {name for name, pid in pids(watcher).items() if pid != before[name]} == anew
    assert any(dies in line and "-9" in line for line in told)


def test_a_supernode_that_a_runs_end_has_confused_is_started_anew(watched, tmp_path: Path) -> None:
    watcher, told, _ = watched
    log, before, said = tmp_path / "state" / "supernode.log", pids(watcher), len(told)
    line = "Run ID 1 is not in `RUNNING` status. Ignoring message abc.\n"
    log.open("a").write(line)
    supervise(watcher, lambda: is_whole(watcher) and pids(watcher) != before, "SuperNode is another")
    after = pids(watcher)
    assert (after["worker"], after["supernode"] != before["supernode"]) == (before["worker"], True)
    assert len(told) == said + 2, "the site's user reads that, and that it connects again"
    watcher.supervise_once()
    assert pids(watcher) == after, "the line is old now"
    log.write_text(line)  # the log was emptied because it had grown too large
    supervise(watcher, lambda: is_whole(watcher) and pids(watcher) != after, "SuperNode is another")


def test_a_reply_that_came_too_late_is_no_confusion(watched, tmp_path: Path) -> None:
    watcher, _, _ = watched
    before = pids(watcher)
    log = tmp_path / "state" / "supernode.log"
    log.open("a").write("Run ID 1 is not in `RUNNING` status. Ignoring reply message abc.\n")
    watcher.supervise_once()
    assert pids(watcher) == before


def end_supernode(watcher: running._Supervisor) -> None:
    watcher._processes["supernode"].kill()
    watcher._processes["supernode"].wait()


def test_a_site_that_is_let_in_no_more_says_so_and_goes_on_trying(watched, tmp_path: Path) -> None:
    watcher, told, coordinator = watched
    coordinator.enrolled = False
    end_supernode(watcher)
    supervise(watcher, lambda: "not enrolled" in why(tmp_path), "the status says why")
    assert "localhost:1 refuses this site" in why(tmp_path)
    lines = len(told)
    supervise(watcher, lambda: watcher._pause == running.PAUSE_SECONDS[1], "the pauses have grown")
    assert len(told) == lines, "it is reported once"
    coordinator.enrolled = True
    supervise(watcher, lambda: is_whole(watcher), "it is connected")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ConnectError("refused"), "localhost:1 cannot be reached"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (UserError("this machine's clock is wrong"), "this machine's clock is wrong"),
    ],
)
def test_a_trouble_is_said_once_and_passes(watched, tmp_path: Path, error: Exception, words: str) -> None:
    watcher, told, coordinator = watched
    coordinator.error = error
    end_supernode(watcher)
    supervise(watcher, lambda: words in why(tmp_path), "the status says why")
    for _ in range(5):
        watcher.supervise_once()
    assert len([line for line in told if words in line]) == 1
    coordinator.error = None
    supervise(watcher, lambda: is_whole(watcher), "all run again")


def test_a_report_that_finds_no_room_ends_nothing(watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(line: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    watcher, _, _ = watched
    monkeypatch.setattr(watcher, "_report", refuse)
    end_supernode(watcher)
    watcher.supervise_once()
    supervise(watcher, lambda: is_whole(watcher), "all run again")


def test_a_supernode_that_lives_and_does_nothing_is_started_again(
    watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher, told, _ = watched
    before = pids(watcher)
    monkeypatch.setattr(running, "SILENT_SECONDS", 0.3)
    supervise(watcher, lambda: any("no sign of life" in line for line in told), "it is missed")
    monkeypatch.setattr(running, "SILENT_SECONDS", 60.0)
    supervise(watcher, lambda: is_whole(watcher), "all run again")
    after = pids(watcher)
    assert after["supernode"] != before["supernode"]
    assert after["worker"] == before["worker"]


def test_the_last_life_is_ended_before_the_next_begins(watched) -> None:
    watcher, told, coordinator = watched
    coordinator.died = True
    said = len(told)
    watcher.start_supernode()
    assert len(told) == said + 2
    assert "localhost:1" in told[-1], "the last life is spoken of first"
