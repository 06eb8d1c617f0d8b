"""Child processes that end with their parent, and log into files."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from common.errors import UserError

LOG_BYTES = 10_000_000  # a log above this is put aside (one generation)
_PR_SET_PDEATHSIG = 1

# Flower's own switches: nothing is sent to or fetched from anyone but the other side.
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}


def spare_proxies_this_machine() -> None:
    """Keep what goes to this machine itself out of any proxy that the environment names; children inherit it."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name, ""), "127.0.0.1", "localhost", "::1"]))


def tool(name: str) -> str:
    """Return the path of a command that is installed beside this Python."""
    return str(Path(sys.executable).parent / name)


def spawn(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a process whose output goes to ``log``; call it from the main thread.

    On Linux the process is ended with SIGTERM when this one dies, however it dies.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    rotate(log)
    parent = os.getpid()
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **QUIET, **environment},
            preexec_fn=(lambda: _end_with(parent)) if sys.platform == "linux" else None,
        )


def free_port() -> int:
    """Return a TCP port of the loopback interface that nothing listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def running_pid(state: Path) -> int | None:
    """Return the process that holds ``state/running.lock``, by its number in ``state/pid``; None where none does."""
    lock = state / "running.lock"
    try:
        number = int((state / "pid").read_text())  # before the lock: who ends takes the number away first
    except (FileNotFoundError, ValueError):
        return None
    if not lock.exists():
        return None
    try:
        with FileLock(lock, timeout=0):
            return None  # a number may be left of one that was killed, and be another process' by now
    except Timeout:
        return number


def stop_running(state: Path) -> bool:
    """Tell the process that ``running_pid`` names to end, and wait until it has; return whether there was one."""
    pid = running_pid(state)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    while running_pid(state) == pid:
        time.sleep(0.1)
    return True


def rotate(log: Path) -> None:
    """Put a log aside that has grown too large; processes that append to it go on in the emptied file."""
    if log.exists() and log.stat().st_size > LOG_BYTES:
        shutil.copy(log, log.with_name(log.name + ".1"))
        os.truncate(log, 0)


def start_in_background(command: Sequence[str], log: Path, ready: Callable[[], bool], seconds: float = 180.0) -> None:
    """Start a process that outlives this one, and return once it is ready.

    Raises:
        UserError: it ends before that, or takes too long.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    before = log.stat().st_size if log.exists() else 0
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            end(process)
            said = log.read_bytes()[before:].decode("utf-8", "replace").strip()
            raise UserError(f"it does not come up:\n{said}\n(the log: {log})")
        time.sleep(0.2)


def end(process: subprocess.Popen[bytes], seconds: float = 10.0) -> None:
    """Ask a process to end, and after so many seconds make it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def last_lines(log: Path, number: int = 5) -> str:
    """Return the last lines of a log, for an error text."""
    if not log.exists():
        return ""
    lines = [line for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return "\n".join(f"  {line}" for line in lines[-number:])


def _end_with(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died in between
        os._exit(1)
