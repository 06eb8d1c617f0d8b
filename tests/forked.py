"""Python processes for tests, forked from one that has imported what they need: a command starts in 0.1 s, not in 7.

A template process imports the modules once, then forks a child for each request. A child is a process like any other:
it has its own session if asked, its own working directory, environment and output, and it can be killed.

    done = run("-m", "fedtransfer", "simulate", "--optimizer", "adm")
    assert done.returncode == 2

    child = start("-m", "fedtransfer", "simulate", "--out", str(folder), output=log)
    wait_until(lambda: list(folder.glob("checkpoints/round-*")), "the first round is done", child.died)
    child.kill()

What a template must not do is run TensorFlow: a fork does not survive that. Importing it is harmless.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COMMAND_LINE = ("fedtransfer",)  # what every command imports: half a second
EVERYTHING = (*COMMAND_LINE, "client.app", "server.app", "simulations.federation")  # TensorFlow, Flower: seven seconds


class Process:
    """A forked child; its exit status comes over a pipe, because the template is its parent."""

    def __init__(self, pid: int, ended: int, words: Sequence[str], output: Path | None) -> None:
        self.pid, self.returncode = pid, None
        self.words, self.output = words, output
        self._ended = ended

    returncode: int | None

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        return self._read(0)

    def wait(self, seconds: float | None = None) -> int:
        """Return the exit status once it has ended.

        Raises:
            subprocess.TimeoutExpired: it runs on.
        """
        status = self._read(seconds)
        if status is None:
            raise subprocess.TimeoutExpired(list(self.words), seconds or 0, self.said())
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.send_signal(signal.SIGKILL)

    def said(self) -> str:
        """Return the end of its output."""
        return self.output.read_text("utf-8", "replace")[-4000:] if self.output else ""

    def died(self) -> str:
        """Say how it ended, with the end of its output; "" while it runs."""
        return "" if self.poll() is None else f"exit status {self.returncode}: {self.said()}"

    def _read(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._ended], [], [], seconds)[0]:
            status = os.read(self._ended, 16)
            os.close(self._ended)
            self.returncode = int(status or -signal.SIGKILL)  # the template itself was killed
        return self.returncode


class Template:
    """A process that has imported some modules and forks."""

    def __init__(self, modules: Sequence[str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), *modules], pass_fds=[theirs.fileno()], cwd=ROOT
            )
        self._control = ours
        atexit.register(self.end)

    def start(
        self, words: Sequence[str], cwd: Path, env: Mapping[str, str], files: Sequence[int], new_session: bool
    ) -> tuple[int, int]:
        """Fork a child that does what ``python WORDS`` does; return its number and the pipe of its exit status."""
        ended, write = os.pipe()
        request = {"words": list(words), "cwd": str(cwd), "env": dict(env), "new_session": new_session}
        try:
            socket.send_fds(self._control, [json.dumps(request).encode()], [*files, write])
        finally:
            os.close(write)
        try:
            return int(self._control.recv(64)), ended
        except (ValueError, ConnectionError):
            raise RuntimeError("the template process has ended; what it printed says why") from None

    def end(self) -> None:
        """End it; children live on."""
        self._control.close()
        self._process.wait()


@cache
def template(modules: tuple[str, ...] = EVERYTHING) -> Template:
    """Return the template of these modules, started when a test first needs it and ended with pytest."""
    return Template(modules)


def start(
    *words: str, output: Path, errors: Path | None = None, cwd: Path = ROOT, env: Mapping[str, str] | None = None,
    new_session: bool = False, modules: tuple[str, ...] = EVERYTHING,
) -> Process:  # fmt: skip
    """Start ``python WORDS``, where words are ``-m MODULE …`` or ``-c CODE …``.

    Args:
        output: the file that its output is appended to.
        errors: the file for standard error; None for the same one.
        cwd: its working directory.
        env: its environment; None for that of this process.
        new_session: whether it leads a process group of its own, as after ``setsid``.
        modules: what the template has imported.
    """
    with open(os.devnull) as nothing, output.open("ab") as out, (errors or output).open("ab") as err:
        files = [nothing.fileno(), out.fileno(), err.fileno()]
        found = template(modules).start(words, cwd, os.environ if env is None else env, files, new_session)
    return Process(*found, words, errors or output)


def run(
    *words: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None, seconds: float = 300.0,
    modules: tuple[str, ...] = EVERYTHING, check: bool = False,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run ``python WORDS`` to its end, as ``subprocess.run`` with captured output would.

    Raises:
        subprocess.TimeoutExpired: it takes longer than ``seconds``; it is killed.
        subprocess.CalledProcessError: ``check``, and its exit status is not 0.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = start(*words, output=out, errors=err, cwd=cwd, env=env, modules=modules)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        done = subprocess.CompletedProcess(list(words), process.returncode, out.read_text(), err.read_text())
    if check:
        done.check_returncode()
    return done


def _serve(control: socket.socket, modules: Sequence[str]) -> dict[str, Any] | None:
    """Fork a child a request; return in each child with its request, and in the template, at the end, with None."""
    for module in modules:
        importlib.import_module(module)
    gc.freeze()  # children share these pages
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    running: dict[int, int] = {}  # process → the pipe for its exit status
    while True:
        ready = select.select([control, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
            _report_ends(running)
        if control in ready:
            message, files, _, _ = socket.recv_fds(control, 1 << 20, 4)
            if not message:
                return None
            if not (child := os.fork()):
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for descriptor in (woken, wake, control.detach(), files[3], *running.values()):
                    os.close(descriptor)
                for number, file in enumerate(files[:3]):
                    os.dup2(file, number)
                    os.close(file)
                return dict(json.loads(message))
            for file in files[:3]:
                os.close(file)
            running[child] = files[3]
            control.send(str(child).encode())


def _report_ends(running: dict[int, int]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        pipe = running.pop(pid)
        with suppress(BrokenPipeError):  # nobody asks any more
            os.write(pipe, str(os.waitstatus_to_exitcode(status)).encode())
        os.close(pipe)


def _become(request: dict[str, Any]) -> None:
    """Do what ``python WORDS`` would."""
    if request["new_session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    tempfile.tempdir = None
    sys.path[0:1] = [request["cwd"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    how, what, *arguments = request["words"]
    if how == "-m":
        sys.argv = [what, *arguments]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        assert how == "-c", how
        sys.argv = ["-c", *arguments]
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})


if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # not this folder: tests/server would hide server
    asked = _serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
    if asked:
        _become(asked)
