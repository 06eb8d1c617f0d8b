"""Child processes that end with their parent and log to files."""

import ctypes
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import write_whole
from fedtransfer.common.support.text import printable

# That this process may use.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
LOG_BYTES = 10_000_000  # a larger log is rotated (one generation)
START_SECONDS = 600.0  # limit for a process to come up: it takes minutes on a machine with a load of 20
REPORT_SECONDS = 10.0  # time between two reports of a wait
_PR_SET_PDEATHSIG = 1

# Flower's switches: it exchanges data with the other side only.
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}


def spare_proxies_this_machine() -> None:
    """Exempt this machine from any proxy that the environment names, for child processes too."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name, ""), "127.0.0.1", "localhost", "::1"]))


def tool(name: str) -> str:
    """Return the path of a command that is installed next to this Python."""
    return str(Path(sys.executable).parent / name)


def superexec_words() -> list[str]:
    """Return the command of Flower's SuperExec that shows no token (``superexec.py``)."""
    return [sys.executable, "-P", "-m", "fedtransfer.common.support.superexec"]


def only_command(folder: Path, name: str, words: Sequence[str]) -> Path:
    """Make a folder, for a PATH, with one command: ``name ARGUMENTS`` runs ``WORDS ARGUMENTS``."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    script = folder / name
    write_whole(script, f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', mode=0o700)
    return folder


def spawn(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a process whose output goes to ``log``; call this from the main thread.

    On Linux the process gets SIGTERM when this one dies, however it dies.

    Raises:
        UserError: the log cannot be written, or the system starts no process.
    """
    parent = os.getpid()
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        rotate(log)
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **QUIET, **environment},
                preexec_fn=(lambda: _end_with(parent)) if sys.platform == "linux" else None,
            )
    except OSError as error:
        raise UserError(f"{command[0]} cannot be started with the log {log}: {error.strerror}") from None


def free_port() -> int:
    """Return a TCP port of the loopback interface that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def running_pid(state: Path) -> int | None:
    """Return the number, in ``state/pid``, of the holder of ``state/running.lock``, or None."""
    lock = state / "running.lock"
    try:
        # Before the lock: a process that ends removes its number first.
        number = int((state / "pid").read_text())
    except (FileNotFoundError, ValueError):
        return None
    if not lock.exists():
        return None
    try:
        with FileLock(lock, timeout=0):
            return None  # a killed process leaves its number, which another process may have by now
    except Timeout:
        return number


@contextmanager
def only_process(state: Path, refusal: str) -> Iterator[None]:
    """Hold ``state/running.lock``, with ``state/pid``; the folder is made if it is missing.

    Raises:
        UserError: with the text ``refusal``, another process holds it; or the folder cannot be
            written.
    """
    lock = FileLock(state / "running.lock")
    try:
        state.mkdir(mode=0o700, exist_ok=True)
        lock.acquire(timeout=1)  # running_pid holds it for a moment
        write_whole(state / "pid", str(os.getpid()))
    except Timeout:
        raise UserError(refusal) from None
    except OSError as error:
        lock.release()
        raise UserError(
            f"{state}: cannot be written: {error.strerror}; make room, or give this user access"
        ) from None
    try:
        yield
    finally:
        (state / "pid").unlink(missing_ok=True)
        lock.release()


def stop_running(state: Path) -> bool:
    """Stop the process that ``running_pid`` names and wait for its end; return if there was one."""
    pid = running_pid(state)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    while running_pid(state) == pid:
        time.sleep(0.1)
    return True


def rotate(log: Path) -> None:
    """Rotate a log that is too large; processes appending to it go on in the emptied file."""
    if log.exists() and log.stat().st_size > LOG_BYTES:
        with suppress(OSError):  # on a full disk the old lines are lost: the new ones need the room
            shutil.copy(log, log.with_name(log.name + ".1"))
        os.truncate(log, 0)


def start_in_background(
    name: str, command: Sequence[str], log: Path, ready: Callable[[], bool], report: Callable[[str], None]
) -> None:
    """Start a process that outlives this one, and return once it is ready.

    See ``wait_until_up`` for the arguments and errors; a process that is not up in time is ended.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    before = log_size(log)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait_until_up(name, process, ready, log, report, before)
    except UserError:
        end(process)
        raise


def wait_until_up(
    name: str, process: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path,
    report: Callable[[str], None], begin: int = 0, seconds: float = START_SECONDS, setting: str = "",
) -> None:  # fmt: skip
    """Wait until a process that was just started is ready.

    Args:
        name: the process in words, such as "site north".
        process, ready: the process, and what says whether it is up.
        log: file for its output; the last line is what it is doing.
        report: takes a line every ten seconds, which says what the process is doing.
        begin: position in the log, in bytes, at which the output of this process begins.
        seconds: the limit.
        setting: the user's setting behind it, such as "--join-timeout 120 for each of 4 sites".

    Raises:
        UserError: the process ended before it was up, or is not up in time.
    """
    began = reported = time.monotonic()
    while not ready():
        now = time.monotonic()
        ended = process.poll() is not None
        if ended or now - began > seconds:
            how = (
                f"ended with exit status {process.returncode}" if ended else f"was not up after {seconds:g} s"
            )
            how += f" ({setting})" if setting and not ended else ""
            output = last_lines(log, begin=begin) or "  nothing"
            raise UserError(f"{name} {how}; the end of its log says:\n{output}\n(the log: {log})")
        if now - reported >= REPORT_SECONDS:
            reported = now
            doing = last_lines(log, 1, begin).strip() or "it has said nothing yet"
            report(f"waiting for {name}, {now - began:.0f} s: {doing}")
        time.sleep(0.1)


def end(process: subprocess.Popen[bytes], seconds: float = 10.0) -> None:
    """Terminate a process, and kill it if it has not ended after ``seconds``."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def log_size(log: Path) -> int:
    """Return the size of a log in bytes, which is where the output of the next process begins."""
    return log.stat().st_size if log.exists() else 0


def last_lines(log: Path, number: int = 5, begin: int = 0) -> str:
    """Return the last lines of a log, or of its part from byte ``begin`` on, for an error text."""
    if not log.exists():
        return ""
    content = log.read_bytes()
    # It may have been rotated since.
    text = content[begin if begin <= len(content) else 0 :].decode("utf-8", "replace")
    lines = [line for line in text.splitlines() if line.strip()]
    # A log has words from outside, with which a terminal would do what they say.
    return "\n".join(f"  {printable(line.expandtabs())}" for line in lines[-number:])


def _end_with(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died in between
        os._exit(1)
