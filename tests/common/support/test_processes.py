"""Child processes: they end with their parent, and whether one runs is told by its lock."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from waiting import wait_until

from fedtransfer.common.support import processes
from fedtransfer.common.support.processes import end, free_port, last_lines, rotate, running_pid, spawn

PARENT = """
import signal, sys
from pathlib import Path
from fedtransfer.common.support.processes import spawn
print(spawn([sys.executable, "-c", "import signal; signal.pause()"], Path(sys.argv[1]), {}).pid, flush=True)
signal.pause()
"""


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_a_child_ends_with_its_parent_even_when_that_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    child = int(parent.stdout.readline())
    assert lives(child)
    parent.kill()
    parent.wait()
    wait_until(lambda: not lives(child), "the child has ended too")


@pytest.mark.process
def test_output_goes_to_the_log_and_flower_is_kept_quiet(tmp_path: Path) -> None:
    code = "import os; print(os.environ['FLWR_TELEMETRY_ENABLED'], os.environ['MORE'])"
    spawn([sys.executable, "-c", code], tmp_path / "state" / "log", {"MORE": "x"}).wait()
    assert last_lines(tmp_path / "state" / "log") == "  0 x"
    assert last_lines(tmp_path / "none") == ""


@pytest.mark.process
def test_a_process_that_does_not_end_when_told_is_made_to(tmp_path: Path) -> None:
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    code = f"{ignore}; print('on', flush=True); signal.pause()"
    process = spawn([sys.executable, "-c", code], tmp_path / "log", {})
    wait_until(
        lambda: "on" in last_lines(tmp_path / "log"), "it ignores SIGTERM", lambda: process.poll() is not None
    )
    end(process, 0.2)
    assert process.returncode == -9
    end(process)


def test_a_log_that_has_grown_is_put_aside_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 100)
    log = tmp_path / "log"
    with log.open("ab") as writer:
        writer.write(b"x" * 101)
        writer.flush()
        rotate(log)
        writer.write(b"new")
    assert log.read_bytes() == b"new"
    assert (tmp_path / "log.1").read_bytes() == b"x" * 101


@pytest.mark.process
def test_who_runs_is_told_by_the_lock_not_by_a_number_that_was_left(tmp_path: Path) -> None:
    assert running_pid(tmp_path) is None
    (tmp_path / "pid").write_text(str(os.getpid()))
    assert running_pid(tmp_path) is None
    code = (
        "import signal, sys\nfrom filelock import FileLock\n"
        "lock = FileLock(sys.argv[1])\nlock.acquire()\nprint(1, flush=True)\nsignal.pause()"
    )
    lock = tmp_path / "running.lock"
    holder = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE)
    assert holder.stdout
    holder.stdout.readline()
    (tmp_path / "pid").write_text(str(holder.pid))
    assert running_pid(tmp_path) == holder.pid
    holder.kill()
    holder.wait()
    assert running_pid(tmp_path) is None
    with FileLock(lock, timeout=0):
        pass


def test_one_that_is_just_ending_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes its number away first, and lets go of the lock after that."""
    (tmp_path / "running.lock").touch()
    (tmp_path / "pid").write_text("1")

    class Held:
        def __init__(self, *_: object, **__: object) -> None: ...

        def __enter__(self) -> None:
            (tmp_path / "pid").unlink()
            raise Timeout("running.lock")

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr("fedtransfer.common.support.processes.FileLock", Held)
    assert running_pid(tmp_path) == 1
    assert running_pid(tmp_path) is None


def test_a_free_port_is_free() -> None:
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))


def test_this_machine_is_spared_by_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """What passes between worker and SuperNode must not go through a hospital's proxy."""
    import httpx

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "intranet.example.org")
    monkeypatch.setenv("no_proxy", "")
    processes.spare_proxies_this_machine()
    assert os.environ["NO_PROXY"] == "intranet.example.org,127.0.0.1,localhost,::1"
    with httpx.Client() as client:
        for url in ("http://127.0.0.1:1234/", "http://localhost:1/"):
            assert client._transport_for_url(httpx.URL(url)) is client._transport
        assert client._transport_for_url(httpx.URL("http://fl.example.org/")) is not client._transport


def test_a_log_is_printed_and_does_nothing_else(tmp_path: Path) -> None:
    """SuperLink's log has words of sites."""
    (tmp_path / "log").write_bytes(b"refused: \x1b]0;mine\x07\n")
    assert last_lines(tmp_path / "log") == r"  refused: \x1b]0;mine\x07"
