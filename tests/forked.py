"""Python processes for tests, forked from one with all imports: they start in 0.2 s, not in 7.

A template process imports modules once, then forks a child for each request. A child has its own
working directory, environment and output; it can be killed, and it ends when the test process ends.

    done = run("-m", "fedtransfer", "simulate", "--optimizer", "adm")
    assert done.returncode == 2

    child = start("-m", "fedtransfer", "simulate", "--out", str(folder), output=log)
    wait_until(lambda: list(folder.glob("checkpoints/round-*")), "a round is done", child.died)
    child.kill()

With ``nested``, processes that the child starts by ``sys.executable``, or by a command next to it,
are forked too: a small script (``forked_stand_in.py``) asks the template, waits, passes signals on.

A template must not run TensorFlow: a fork does not survive that. Importing it is harmless.
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COMMAND_LINE = ("fedtransfer.cli",)  # what every command imports: half a second
EVERYTHING = (  # TensorFlow, and Flower's commands: seven seconds
    *COMMAND_LINE, "fedtransfer.client.app", "fedtransfer.server.app", "fedtransfer.simulations.federation",
    "fedtransfer.client.deployment.eager_supernode", "fedtransfer.client.deployment.task",
    "fedtransfer.server.deployment.gate.gate",
    "flwr.superlink.cli", "flwr.superlink.main", "flwr.supercore.cli",
)  # fmt: skip
_NEWNET = 0x40000000  # of Linux's setns
TOOLS = ("python", "fedtransfer", "flower-superlink", "flower-superexec", "flwr-serverapp")


class Process:
    """A forked child."""

    def __init__(
        self, connection: socket.socket, pid: int, words: Sequence[str], output: Path | None
    ) -> None:
        self.pid, self.words, self.output = pid, words, output
        self.returncode: int | None = None
        self._connection = connection  # says how it ended; closing it kills

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
            raise subprocess.TimeoutExpired(list(self.words), seconds or 0, self.said().encode())
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
        if self.returncode is None and select.select([self._connection], [], [], seconds)[0]:
            try:
                word = self._connection.recv(64)
            except ConnectionError:
                word = b""
            self.returncode = int(word or -signal.SIGKILL)  # no word: the template was killed
            self._connection.close()
        return self.returncode


class Template:
    """A process that has imported some modules and forks.

    Attributes:
        folder: its socket, ``bin`` with the stand-ins for Python and the commands next to it, and
            ``forked``: the number of a stand-in's process → that of the child which does its work.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="forked-"))
        (self.folder / "bin").mkdir()
        (self.folder / "forked").mkdir()
        for name in TOOLS:
            words = f'"{sys.executable}" -I -S "{ROOT}/tests/forked_stand_in.py" "{self.folder}" {name} "$@"'
            (self.folder / "bin" / name).write_text(f"#!/bin/sh\nexec {words}\n")
            (self.folder / "bin" / name).chmod(0o755)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(self.folder / "socket"))
            listener.listen(64)
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(listener.fileno()), str(self.folder), *modules],
                pass_fds=[listener.fileno()], stdin=subprocess.PIPE, cwd=ROOT,
            )  # fmt: skip
        atexit.register(self.end)

    def start(self, request: Mapping[str, Any], files: Sequence[int]) -> tuple[socket.socket, int]:
        """Fork a child; return its connection and its number."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(str(self.folder / "socket"))
        socket.send_fds(connection, [json.dumps(request).encode()], files)
        answer = connection.recv(64)
        assert answer, "the template process has ended; what it printed says why"
        return connection, int(answer)

    def end(self) -> None:
        """End it, and all children."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


_templates: list[Template] = []


@cache
def template(modules: tuple[str, ...] = EVERYTHING) -> Template:
    """Return the template of these modules, started when a test first needs it."""
    _templates.append(Template(modules))
    return _templates[-1]


def python() -> str:
    """Return what stands for Python in a command line: it has the template fork what works."""
    return str(template().folder / "bin" / "python")


def forked_for(stand_in: int) -> int | None:
    """Return the child that does the work of a stand-in's process; None where there is none."""
    for made in _templates:
        with suppress(FileNotFoundError, ValueError):
            return int((made.folder / "forked" / str(stand_in)).read_text())
    return None


def start(
    *words: str, output: Path, errors: Path | None = None, cwd: Path = ROOT,
    env: Mapping[str, str] | None = None, new_session: bool = False, nested: bool = False,
    modules: tuple[str, ...] = EVERYTHING,
) -> Process:  # fmt: skip
    """Start ``python WORDS``, where words are ``-m MODULE …`` or ``-c CODE …``.

    Args:
        output: the file that its output is appended to.
        errors: the file for standard error; None for the same one.
        cwd: its working directory.
        env: its environment; None for that of this process.
        new_session: whether it leads a process group of its own, as after ``setsid``.
        nested: whether the processes that it starts are forked too.
        modules: what the template has imported.
    """
    request = {
        "words": words, "cwd": str(cwd), "env": dict(os.environ if env is None else env),
        "new_session": new_session, "nested": nested, "numbers": [0, 1, 2],
    }  # fmt: skip
    with open(os.devnull) as nothing, output.open("ab") as out, (errors or output).open("ab") as err:
        found = template(modules).start(request, [nothing.fileno(), out.fileno(), err.fileno()])
    return Process(*found, words, errors or output)


def run(
    *words: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None, seconds: float = 300.0,
    nested: bool = False, modules: tuple[str, ...] = EVERYTHING, check: bool = False,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run ``python WORDS`` to its end, as ``subprocess.run`` with captured output would.

    Raises:
        subprocess.TimeoutExpired: it takes longer than ``seconds``; it is killed.
        subprocess.CalledProcessError: ``check``, and its exit status is not 0.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = start(*words, output=out, errors=err, cwd=cwd, env=env, nested=nested, modules=modules)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        done = subprocess.CompletedProcess(list(words), process.returncode, out.read_text(), err.read_text())
    if check:
        done.check_returncode()
    return done


class _Server:
    """The template's side."""

    def __init__(self, listener: socket.socket, folder: Path) -> None:
        self._listener, self._folder = listener, folder
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._children: dict[socket.socket, int] = {}  # connection → child, 0 before its request has come

    def serve(self) -> dict[str, Any] | None:
        """Fork a child a request; return its request in each child, and None in the template."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        while True:
            ready = select.select([0, self._listener, self._woken, *self._children], [], [])[0]
            if 0 in ready:  # the tests have ended
                for child in filter(None, self._children.values()):
                    os.kill(child, signal.SIGKILL)
                return None
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._report_ends()
            if self._listener in ready:
                self._children[self._listener.accept()[0]] = 0
            for connection in [each for each in self._children if each in ready]:
                if self._children[connection]:  # who asked has gone
                    os.kill(self._children[connection], signal.SIGKILL)
                    self._forget(connection)
                elif request := self._begin(connection):
                    return request

    def _begin(self, connection: socket.socket) -> dict[str, Any] | None:
        message, files, _, _ = socket.recv_fds(connection, 1 << 20, 250)
        if not message:
            self._forget(connection)
            return None
        request = dict(json.loads(message))
        if not (child := os.fork()):
            _join_network(_peer(connection))
            self._leave()
            _place(files, request["numbers"])
            return request
        for file in files:
            os.close(file)
        self._children[connection] = child
        self._by_peer(connection).write_text(str(child))
        connection.send(str(child).encode())
        return None

    def _leave(self) -> None:
        """Let go, in a child, of what is the template's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # A shell starts what is behind it deaf to Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for descriptor in (self._woken, self._wake):
            os.close(descriptor)
        for opened in (self._listener, *self._children):
            opened.close()

    def _report_ends(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for connection in [each for each, child in self._children.items() if child == pid]:
                with suppress(OSError):  # who asked has gone
                    connection.send(str(os.waitstatus_to_exitcode(status)).encode())
                self._forget(connection)

    def _forget(self, connection: socket.socket) -> None:
        self._by_peer(connection).unlink(missing_ok=True)
        del self._children[connection]
        connection.close()

    def _by_peer(self, connection: socket.socket) -> Path:
        return self._folder / "forked" / str(_peer(connection))


def _peer(connection: socket.socket) -> int:
    """Return the process at the other end."""
    return int(struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])


def _join_network(process: int) -> None:
    """Be on the network of another process, as after ``ip netns exec``."""
    theirs = Path(f"/proc/{process}/ns/net")
    if theirs.readlink() != Path("/proc/self/ns/net").readlink():
        with theirs.open() as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _NEWNET):
                raise OSError(ctypes.get_errno(), "setns")


def _place(files: Sequence[int], numbers: Sequence[int]) -> None:
    """Give open files the numbers that they have where they come from."""
    above = max((*files, *numbers)) + 1
    kept = [os.dup2(file, above + i) for i, file in enumerate(files)]
    for file in files:
        os.close(file)
    for file, number in zip(kept, numbers, strict=True):
        os.dup2(file, number, inheritable=True)
        os.close(file)


def _become(request: dict[str, Any], folder: Path) -> None:
    """Do what ``python WORDS`` would."""
    if request["new_session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    tempfile.tempdir = None
    if request["nested"]:
        import multiprocessing

        sys.executable = str(folder / "bin" / "python")
        multiprocessing.set_executable(sys.executable)
    words = list(request["words"])
    while words[0].startswith("-") and words[0] not in ("-m", "-c"):  # of Python itself: -P, -u, -X NAME
        words[: 2 if words[0] in ("-X", "-W") else 1] = []
    sys.path[0:1] = [request["cwd"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = words if words[0] not in ("-m", "-c") else words[1:]
    if words[0] == "-m":
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv[0] = "-c"
        exec(compile(words[1], "<string>", "exec"), vars(sys.modules["__main__"]))
    else:  # a script
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # not this folder: tests/server would hide server
    here = Path(sys.argv[2])
    server = _Server(socket.socket(fileno=int(sys.argv[1])), here)
    for module in sys.argv[3:]:
        importlib.import_module(module)
    gc.freeze()  # children share these pages
    if asked := server.serve():
        _become(asked, here)
