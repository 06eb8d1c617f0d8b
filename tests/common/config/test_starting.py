"""Waiting for a process that just started: what is reported, and what a failure says."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedtransfer.common.errors import UserError
from fedtransfer.common.support import processes
from fedtransfer.common.support.processes import last_lines, spawn, start_in_background, wait_until_up

pytestmark = pytest.mark.process

WAITS = "import sys; print('the first step'); print('the second step', flush=True); sys.stdin.read()"


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """A process that reports two steps and then waits, and its log with an earlier one's words."""
    log = tmp_path / "log"
    log.write_text("of an earlier process\n")
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE, stdout=output)
    yield process, log
    process.kill()
    process.wait()
    assert process.stdin
    process.stdin.close()


def test_what_a_process_does_is_reported_until_it_is_up(waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    process, log = waiting
    monkeypatch.setattr(processes, "REPORT_SECONDS", 0.0)
    lines: list[str] = []
    wait_until_up(
        "site north", process, lambda: any("second" in line for line in lines), log, lines.append,
        log.read_bytes().index(b"process\n") + 8,
    )  # fmt: skip
    assert "site north" in lines[-1]
    assert lines[-1].endswith("the second step"), "the last line of its log"
    assert not any("earlier" in line for line in lines)


def test_one_that_is_never_up_is_given_up_with_the_limit_and_what_sets_it(waiting) -> None:
    process, log = waiting
    limit = "--join-timeout 0.1 for each of 2 sites"
    with pytest.raises(UserError) as error:
        wait_until_up("site north", process, lambda: False, log, print, seconds=0.2, setting=limit)
    for fact in ("site north", "0.2 s", limit, str(log)):
        assert fact in str(error.value)
    assert process.poll() is None, "its owner ends it"


def test_one_that_ends_is_given_up_at_once_with_its_status_and_last_words(tmp_path: Path) -> None:
    process = spawn([sys.executable, "-c", "print('the port is taken'); exit(3)"], tmp_path / "log", {})
    with pytest.raises(UserError, match=r"(?s)SuperLink .*3.*the port is taken"):
        wait_until_up("SuperLink", process, lambda: False, tmp_path / "log", print)


@pytest.mark.parametrize("number", [1, 5])
def test_one_that_says_nothing_is_waited_for_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(processes, "REPORT_SECONDS", 0.0)
    lines: list[str] = []
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        wait_until_up("it", process, lambda: len(lines) >= number, tmp_path / "log", lines.append)
    finally:
        process.communicate(b"\n")
    assert len(lines) == number


def test_what_is_started_in_the_background_is_waited_for_and_goes_on(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = "import pathlib, signal, sys; pathlib.Path(sys.argv[1]).touch(); signal.alarm(60); signal.pause()"
    start_in_background("it", [sys.executable, "-c", code, str(ready)], tmp_path / "log", ready.exists, print)
    assert ready.exists()


def test_what_does_not_start_in_the_background_is_ended_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("of an earlier process\n")
    with pytest.raises(UserError) as error:
        start_in_background(
            "site north",
            [sys.executable, "-c", "print('out of luck')"],
            tmp_path / "log",
            lambda: False,
            print,
        )
    assert "out of luck" in str(error.value)
    assert str(tmp_path / "log") in str(error.value)
    assert "earlier" not in str(error.value)


def test_a_log_that_was_rotated_meanwhile_is_read_from_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("the port is taken\n")
    assert last_lines(tmp_path / "log", begin=10_000_001).strip() == "the port is taken"
