"""The warm worker: one process with features and heads, which answers messages in turn.

Flower starts a process for each message, and importing TensorFlow there would take longer than a
round. So its ``flwr-clientapp`` is a few lines here (``client/deployment/launcher.py``) that pass
the message's token to this process, over a Unix socket that only the site's own user can open:
``python -m fedtransfer.client.deployment.worker SITE``.
"""

import hashlib
import json
import logging
import os
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from fedtransfer.client.deployment.launcher import ask
from fedtransfer.client.deployment.settings import SETTINGS, Limits, SiteFolder
from fedtransfer.client.deployment.watch import watch
from fedtransfer.common.errors import UserError

log = logging.getLogger(__name__)

_LONGEST_SOCKET = 100  # bytes; the kernel's limit is 108, macOS' 104


def serve(folder: Path) -> None:
    """Answer the messages of the site in ``folder`` until the process is ended.

    Raises:
        UserError: the site's settings are invalid.
    """
    site = SiteFolder.open(folder)
    with _listen(socket_of(site)) as listener:
        from fedtransfer.client.app import app  # a second or two: ready before the first message comes
        from fedtransfer.client.deployment.task import Task

        worker = _Worker(
            lambda request: Task(site, request["address"], request["token"]), lambda task: task.answer(app)
        )
        limits = _Limits(folder)
        Thread(target=watch, args=(limits, worker.since), name="watch", daemon=True).start()
        log.info("the worker is ready")
        while True:
            connection, _ = listener.accept()
            Thread(target=worker.handle, args=(connection,), daemon=True).start()


class _Worker:
    """Answers requests: for its status, or to answer a message."""

    def __init__(
        self, make: Callable[[dict[str, Any]], Any], answer: Callable[[Any], dict[str, Any]]
    ) -> None:
        self._make, self._answer = make, answer
        self._answering = Lock()  # one after the other
        self._state: dict[str, Any] = {"since": time.time(), "doing_since": None, "last": None, "done": 0}

    def since(self) -> float | None:
        """Return when the present answer began, in seconds; None between answers."""
        return self._state["doing_since"]

    def handle(self, connection: socket.socket) -> None:
        """Answer one request of the site's own user; close the connection of any other user."""
        with connection:
            if _user_of(connection) != os.getuid():
                return
            request = json.loads(connection.makefile("r", encoding="utf-8").readline())
            answer = self._state if request["ask"] == "status" else {"code": self._work(request)}
            with suppress(BrokenPipeError):  # the other end did not wait
                connection.sendall(json.dumps(answer).encode() + b"\n")

    def _work(self, request: dict[str, Any]) -> int:
        try:
            with closing(self._make(request)) as task:
                task.fetch()  # before the lock: a message that never arrives whole must not hold up others
                with self._answering:
                    self._state["doing_since"] = time.time()
                    try:
                        last = self._answer(task)
                    finally:
                        self._state["doing_since"] = None
        except Exception:
            log.exception("a message could not be answered")
            return 1
        self._state |= {"last": last, "done": self._state["done"] + 1}
        log.info("%s", last)
        return 0


class _Limits:
    """The site's present limits: those in ``site.toml`` when it was last valid."""

    def __init__(self, folder: Path) -> None:
        self._path, self._folder = folder / SETTINGS, folder
        self._limits, self._changed = SiteFolder.open(folder).settings.limits, 0

    def __call__(self) -> Limits:
        """Return them."""
        with suppress(OSError, UserError):  # being edited: the next message is refused until it is mended
            if (changed := self._path.stat().st_mtime_ns) != self._changed:
                self._limits, self._changed = SiteFolder.open(self._folder).settings.limits, changed
        return self._limits


def worker_status(site: SiteFolder) -> dict[str, Any] | None:
    """Return the worker's status: its start, its last task; None if no worker runs."""
    path = socket_of(site)
    answer = ask(str(path), {"ask": "status"}, 5.0) if _is_ours(path.parent) else ""
    return json.loads(answer) if answer else None


def socket_of(site: SiteFolder) -> Path:
    """Return the path of the worker's socket, outside the site's folder if that is too long."""
    path = site.state / "worker.sock"
    if len(os.fsencode(path)) < _LONGEST_SOCKET:
        return path
    digest = hashlib.sha256(os.fsencode(site.folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"fedtransfer-{os.getuid()}-{digest}" / "worker.sock"


def _listen(path: Path) -> socket.socket:
    with suppress(FileExistsError):
        path.parent.mkdir(mode=0o700, parents=True)
    if not _is_ours(path.parent):
        raise UserError(
            f"{path.parent}: expected a folder of this user, got one of somebody else, or somebody else's "
            "link; remove it, or set TMPDIR to a folder of this user"
        )
    path.parent.chmod(0o700)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen()
    return listener


def _is_ours(folder: Path) -> bool:
    """Whether a folder is this user's, and a link to it is: in /tmp anybody may take the name."""
    try:
        return folder.is_dir() and folder.stat().st_uid == folder.lstat().st_uid == os.getuid()
    except OSError:
        return False


def _user_of(connection: socket.socket) -> int:
    """Return the user at the other end, as the kernel reports it."""
    if not hasattr(socket, "SO_PEERCRED"):
        return os.getuid()  # only the site's user can enter the socket's folder
    size = struct.calcsize("3i")
    return int(struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[1])


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs each piece of each message
    serve(Path(sys.argv[1]))
