"""A site that loses its coordinator says why within a minute, and comes back by itself."""

import os
import re
import signal
import sqlite3
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copytree

import forked
import pytest
from deployment.federation import CoordinatorParty, SiteParty, start_all, stopping
from deployment.network import Relay
from pictures import class_folders
from waiting import wait_until

from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.client.deployment.status import condition_of, describe, status_lines
from fedtransfer.server.deployment.certificates import issue_server_certificate
from fedtransfer.server.deployment.coordinator import Coordinator

pytestmark = pytest.mark.full

SUPERLINK = r"flower-superlink|deployment\.gate "
SUPEREXEC = r"support\.superexec "
MINUTE = 65.0  # seconds within which a status says why, and a second or two for looking


@dataclass
class Pair:
    """A coordinator, and a site that reaches it over a path which can be broken."""

    coordinator: CoordinatorParty
    site: SiteParty
    path: Relay

    def is_connected(self) -> bool:
        condition = condition_of(SiteFolder.open(self.site.folder))
        return condition is not None and condition.up

    def status(self) -> str:
        return "\n".join(status_lines(describe(SiteFolder.open(self.site.folder))))

    def says(self, words: str, seconds: float = MINUTE) -> None:
        wait_until(
            lambda: "NOT connected" in self.status() and re.search(words, self.status()),
            f"the site says {words!r}, last {self.status()!r}", self.site.died, seconds,
        )  # fmt: skip

    def comes_back(self, seconds: float = MINUTE) -> None:
        wait_until(self.is_connected, "the site is connected again", self.site.died, seconds)

    def supernode(self) -> list[int]:
        """The processes of SuperNode: they go on where a fault may pass."""
        return pids("eager_supernode", self.site.folder)


def pids(program: str, folder: Path) -> list[int]:
    """The processes of a program, and those that are forked for them, which do the work."""
    listing = subprocess.run(["ps", "-eww", "-o", "pid,args"], capture_output=True, text=True).stdout
    lines = [line for line in listing.splitlines() if re.search(program, line) and str(folder) in line]
    named = [int(line.split()[0]) for line in lines]
    return sorted({*named, *filter(None, map(forked.forked_for, named))})


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    coordinator = CoordinatorParty(folder / "coordinator")
    with Relay(coordinator.port) as path:
        data = class_folders(folder / "images", 1)
        site = SiteParty(folder / "north", "north", coordinator, data, f"localhost:{path.port}")
        with stopping(site, coordinator):
            start_all(coordinator, site)
            pair = Pair(coordinator, site, path)
            pair.comes_back()
            yield pair


@contextmanager
def unbroken(pair: Pair) -> Iterator[None]:
    """The site comes back, with the SuperNode that it had: another would lose its messages."""
    before = pair.supernode()
    yield
    pair.comes_back()
    assert pair.supernode() == before


def test_a_database_that_is_locked(pair: Pair) -> None:
    with unbroken(pair):
        database = sqlite3.connect(pair.coordinator.folder / "state" / "superlink.db", isolation_level=None)
        database.execute("BEGIN IMMEDIATE")
        try:
            pair.says("SuperLink at localhost:[0-9]+ answers HTTP 50[03]")
        finally:
            database.execute("ROLLBACK")
            database.close()


def test_connections_are_refused(pair: Pair) -> None:
    with unbroken(pair):
        pair.path.cut()
        try:
            pair.says("refuses connections; is the coordinator up|does not answer in time")
        finally:
            pair.path.heal()


def test_tcp_is_cut_in_the_middle_of_tls_handshakes(pair: Pair) -> None:
    with unbroken(pair), pair.path.hanging_up():
        pair.says("the TLS connection with localhost:[0-9]+ was cut|cannot be reached")


def test_a_certificate_expires_and_is_renewed(pair: Pair, tmp_path: Path) -> None:
    copytree(pair.coordinator.folder / "certificates", tmp_path / "certificates")
    long_ago = datetime.now(UTC) - timedelta(days=3)
    key = Coordinator.open(pair.coordinator.folder).authority_key
    issue_server_certificate(tmp_path / "certificates", ["localhost"], 1, now=long_ago, key_file=key)
    relay = Relay(pair.coordinator.port, 0.0, tmp_path / "certificates")
    with unbroken(pair), relay as expired, pair.path.leading_to(expired.port):
        pair.says("certificate has expired; its people renew it with: fedtransfer server renew")


@contextmanager
def front(certificates: Path, status: int, kind: str, body: bytes, ahead: float = 0.0) -> Iterator[int]:
    """Answer every request as a proxy would, with a clock that is ``ahead`` seconds ahead."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response_only(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            date = datetime.now(UTC) + timedelta(seconds=ahead)
            self.send_header("Date", format_datetime(date, usegmt=True))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


PAGE = b"<html><body><h1>Bad Gateway</h1></body></html>"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (502, "a proxy in front of SuperLink at .* answers HTTP 502"),
        (404, "answers HTTP 404, not like a coordinator"),
        (200, "answers, but not like a coordinator; does a proxy or a login page"),
    ],
)
def test_a_proxy_answers_with_a_page(pair: Pair, status: int, words: str) -> None:
    proxy = front(pair.coordinator.folder / "certificates", status, "text/html", PAGE)
    with unbroken(pair), proxy as port, pair.path.leading_to(port):
        pair.says(words)


def test_a_clock_that_is_wrong(pair: Pair) -> None:
    """SuperLink refuses its signatures; SuperNode ends, and is started when the clock is right."""
    refusal = b'{"detail": "Invalid SuperNode authentication"}'
    certificates = pair.coordinator.folder / "certificates"
    superlink = front(certificates, 401, "application/json", refusal, ahead=90.0)
    with superlink as port, pair.path.leading_to(port):
        pair.says("this machine's clock is -(89|90|91) s off the coordinator's")
    pair.comes_back()


def test_superlink_is_frozen(pair: Pair) -> None:
    """The supervisor starts it again, since it does not answer, though its process is there."""
    superlink = pids(SUPERLINK, pair.coordinator.folder)
    for pid in superlink:
        os.kill(pid, signal.SIGSTOP)
    pair.says("does not answer in time")
    pair.comes_back(200)
    assert "SuperLink has not answered for" in pair.coordinator.log()
    assert not set(superlink) & set(pids(SUPERLINK, pair.coordinator.folder))


def test_superexec_is_killed(pair: Pair) -> None:
    """It is SuperLink's child, which its supervisor does not see; without it no run would start."""
    before = set(pids(SUPEREXEC, pair.coordinator.folder))
    assert before
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: set(pids(SUPEREXEC, pair.coordinator.folder)) - before, "SuperExec runs again")


def test_supernode_is_frozen_for_a_while(pair: Pair) -> None:
    with unbroken(pair):
        for pid in pair.supernode():
            os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: "no sign of life" in pair.status(), "the status says so", pair.site.died, MINUTE)
        for pid in pair.supernode():
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: "no sign of life" not in pair.status(), "it lives", pair.site.died, MINUTE)


def test_a_key_that_is_enrolled_later_and_revoked(pair: Pair, tmp_path: Path) -> None:
    data = class_folders(tmp_path / "images", 2)
    late = SiteParty(tmp_path / "late", "late", pair.coordinator, data, enrol=False)
    with stopping(late):
        late.start(wait=False)
        newcomer = Pair(pair.coordinator, late, pair.path)
        newcomer.says("refuses this site: its key is not enrolled, or was revoked", 150)
        pair.coordinator.command("enroll", str(late.folder / "site.pub"))
        newcomer.comes_back()
        pair.coordinator.command("revoke", "late")
        newcomer.says("refuses this site: its key is not enrolled, or was revoked")
        assert late.process
        assert late.process.poll() is None
        assert late.command("status", check=False).returncode == 1


def test_it_still_takes_part(pair: Pair) -> None:
    pair.coordinator.run("--rounds", "1", "--sites", "1", "--min-sites", "1", name="one")
    assert [each["present"] for each in pair.coordinator.rounds("one")] == [["north"]]
