"""The worker's socket and the launcher that Flower starts in place of its ``flwr-clientapp``."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from waiting import patient

from fedtransfer.client.deployment import launcher, worker
from fedtransfer.client.deployment.launcher import ask
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.client.deployment.supernode import _only_launcher
from fedtransfer.common.errors import UserError


@pytest.fixture
def site(tmp_path: Path) -> SiteFolder:
    (tmp_path / "state").mkdir()
    (tmp_path / "site.toml").write_text('name = "a"\ncoordinator = "localhost:1"\ndata = "images"\n')
    return SiteFolder.open(tmp_path)


class Message:
    """A message that is there at once, but for one that comes late."""

    late = threading.Event()
    waiting = threading.Event()

    def __init__(self, request: dict[str, Any]) -> None:
        self.request = request

    def fetch(self) -> None:
        if self.request["token"] == "late":
            self.waiting.set()
            self.late.wait(patient(60))

    def close(self) -> None:
        pass


@pytest.fixture
def done(site: SiteFolder):
    """Serve a worker that notes what it is asked; return the notes."""
    asked: list[dict[str, Any]] = []

    def answer(task: Message) -> dict[str, Any]:
        if task.request["token"] == "bad":
            raise RuntimeError("no such task")
        asked.append(task.request)
        return {"kind": "train"}

    serving = worker._Worker(Message, answer)
    listener = worker._listen(worker.socket_of(site))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serving.handle, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield asked
    listener.close()


def launch(site: SiteFolder, token: str) -> subprocess.CompletedProcess[str]:
    """Start what SuperExec would, as it would: by name, the launcher's folder as the whole PATH."""
    file = site.state / f"token-{token}"
    file.write_text(token)
    words = [
        "flwr-clientapp",
        "--runtime-api-address",
        "127.0.0.1:9",
        "--token-file",
        str(file),
        "--insecure",
        "--parent-pid",
        "1",
    ]
    return subprocess.run(
        words, env={"PATH": str(_only_launcher(site))}, capture_output=True, text=True, timeout=patient(60)
    )


def arguments(site: SiteFolder) -> list[str]:
    (site.state / "token").write_text("secret")
    return ["--runtime-api-address", "127.0.0.1:9", "--token-file", str(site.state / "token")]


@pytest.mark.process
def test_the_launcher_hands_over_address_and_token(site: SiteFolder, done: list[dict[str, Any]]) -> None:
    assert launch(site, "secret").returncode == 0
    assert done == [{"ask": "task", "address": "127.0.0.1:9", "token": "secret"}]
    told = worker.worker_status(site)
    assert told is not None
    assert (told["done"], told["last"], told["doing_since"]) == (1, {"kind": "train"}, None)


@pytest.mark.process
def test_a_message_that_cannot_be_done_is_an_exit_status(
    site: SiteFolder, done: list[dict[str, Any]]
) -> None:
    assert launch(site, "bad").returncode == 1
    assert launch(site, "good").returncode == 0, "and the next one is done"


@pytest.mark.process
def test_a_message_that_never_comes_whole_does_not_hold_up_the_next(
    site: SiteFolder, done: list[dict[str, Any]]
) -> None:
    with ThreadPoolExecutor() as pool:
        late = pool.submit(launch, site, "late")
        assert Message.waiting.wait(patient(60)), "the late message is being fetched"
        assert launch(site, "next").returncode == 0
        Message.late.set()
        assert late.result(patient(60)).returncode == 0
    assert [request["token"] for request in done] == ["next", "late"]


@pytest.mark.process
def test_nothing_else_can_be_started_at_a_site(site: SiteFolder) -> None:
    """Flower has kinds of task that unpack a bundle and run it: SuperExec must not find them."""
    folder = _only_launcher(site)
    assert [path.name for path in folder.iterdir()] == ["flwr-clientapp"]
    for name in ("flwr-agentapp", "flwr-serverapp", "flwr-simulation", "flwr-model", "flwr-connector"):
        assert (Path(sys.executable).parent / name).exists(), (
            f"{name} is installed, so the test means something"
        )
        with pytest.raises(FileNotFoundError):
            subprocess.run([name], env={"PATH": str(folder)})


def test_only_the_sites_user_is_heard(
    site: SiteFolder, done: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = worker.socket_of(site)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert ask(str(path), {"ask": "status"}, 5.0)
    monkeypatch.setattr(worker, "_user_of", lambda connection: os.getuid() + 1)
    assert ask(str(path), {"ask": "status"}, 5.0) == ""
    assert not done


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    here, there = socket.socketpair()
    with here, there:
        assert worker._user_of(here) == os.getuid()


def test_a_path_too_long_for_a_socket_is_replaced(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    deep.mkdir(parents=True)
    (deep / "site.toml").write_text('name = "a"\ncoordinator = "localhost:1"\ndata = "images"\n')
    path = worker.socket_of(SiteFolder.open(deep))
    assert len(os.fsencode(path)) < 100
    with worker._listen(path):
        assert path.parent.stat().st_mode & 0o777 == 0o700
    path.unlink()


def test_the_launcher_waits_for_a_worker_that_is_just_starting(
    site: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker starts while the launcher pauses after it was not there."""
    path, heard = worker.socket_of(site), []

    def work(listener: socket.socket) -> None:
        with listener:
            for _ in range(2):
                connection, _address = listener.accept()
                with connection:
                    heard.append(json.loads(connection.makefile().readline())["ask"])
                    connection.sendall(json.dumps({"code": 0}).encode() + b"\n")

    def pause(seconds: float) -> None:
        threading.Thread(target=work, args=(worker._listen(path),)).start()

    monkeypatch.setattr(launcher, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pause))
    assert launcher.main(str(path), arguments(site)) == 0
    assert heard == ["status", "task"]


def test_the_launcher_gives_up_a_worker_that_never_starts(
    site: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    def pause(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(launcher, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=pause))
    path = worker.socket_of(site)
    assert launcher.main(str(path), arguments(site)) == 1
    assert launcher.WAIT_SECONDS < clock[0] < launcher.WAIT_SECONDS + 5


@pytest.fixture
def elsewhere(site: SiteFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in the temporary directory for the socket of a site whose path is too long."""
    with tempfile.TemporaryDirectory() as short:
        monkeypatch.setattr(worker.tempfile, "gettempdir", lambda: short)
        monkeypatch.setattr(worker, "_LONGEST_SOCKET", 1)
        yield worker.socket_of(site).parent


def test_another_users_link_is_not_taken_for_the_sockets_folder(
    site: SiteFolder, elsewhere: Path, tmp_path: Path
) -> None:
    """Who may write to the temporary directory could lead the socket to any folder of this user."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a link of another user")
    (tmp_path / "victim").mkdir(mode=0o755)
    elsewhere.symlink_to(tmp_path / "victim")
    os.lchown(elsewhere, 12_345, 12_345)
    with pytest.raises(UserError, match=r"expected a folder of this user, got .*; remove it, or set TMPDIR"):
        worker._listen(worker.socket_of(site))
    assert list((tmp_path / "victim").iterdir()) == []
    assert (tmp_path / "victim").stat().st_mode & 0o777 == 0o755
    assert worker.worker_status(site) is None


def test_another_users_folder_is_not_taken_and_not_asked(site: SiteFolder, elsewhere: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a folder of another user")
    elsewhere.mkdir()
    os.chown(elsewhere, 12_345, 12_345)
    with pytest.raises(UserError, match="remove it, or set TMPDIR"):
        worker._listen(worker.socket_of(site))
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(elsewhere / "worker.sock"))
        stranger.listen()
        assert worker.worker_status(site) is None


def test_the_sockets_folder_is_this_users_alone(site: SiteFolder, elsewhere: Path) -> None:
    worker._listen(worker.socket_of(site)).close()
    worker._listen(worker.socket_of(site)).close()
    assert elsewhere.stat().st_mode & 0o777 == 0o700
