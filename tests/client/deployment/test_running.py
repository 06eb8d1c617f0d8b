"""What watches over a site's processes: what dies is started again, and so is what is confused."""

import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedtransfer.client.deployment import running
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.common.errors import UserError


class Coordinator:
    """What the coordinator says of the site."""

    enrolled = True
    died = False

    def is_enrolled(self) -> bool:
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
    assert {name for name, pid in pids(watcher).items() if pid != before[name]} == anew
    assert any(dies in line and "-9" in line for line in told)


def test_a_supernode_that_a_runs_end_has_confused_is_started_anew(watched, tmp_path: Path) -> None:
    watcher, told, _ = watched
    log, before, said = tmp_path / "state" / "supernode.log", pids(watcher), len(told)
    line = "Run ID 1 is not in `RUNNING` status. Ignoring message abc.\n"
    log.open("a").write(line)
    watcher.supervise_once()
    after = pids(watcher)
    assert (after["worker"], after["supernode"] != before["supernode"]) == (before["worker"], True)
    assert len(told) == said + 2, "the site's user reads that, and that it connects again"
    watcher.supervise_once()
    assert pids(watcher) == after, "the line is old now"
    log.write_text(line)  # the log was emptied because it had grown too large
    watcher.supervise_once()
    assert pids(watcher) != after


def test_a_reply_that_came_too_late_is_no_confusion(watched, tmp_path: Path) -> None:
    watcher, _, _ = watched
    before = pids(watcher)
    log = tmp_path / "state" / "supernode.log"
    log.open("a").write("Run ID 1 is not in `RUNNING` status. Ignoring reply message abc.\n")
    watcher.supervise_once()
    assert pids(watcher) == before


def test_a_site_that_is_let_in_no_more_stops_with_the_reason(watched) -> None:
    watcher, _, coordinator = watched
    coordinator.enrolled = False
    watcher._processes["supernode"].kill()
    watcher._processes["supernode"].wait()
    with pytest.raises(UserError, match=r"localhost:1 .* not enrolled"):
        watcher.supervise_once()


def test_the_last_life_is_ended_before_the_next_begins(watched) -> None:
    watcher, told, coordinator = watched
    coordinator.died = True
    said = len(told)
    watcher.start_supernode()
    assert len(told) == said + 2
    assert "localhost:1" in told[-1], "the last life is spoken of first"
