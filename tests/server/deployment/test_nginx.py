"""nginx in front of SuperLink: it hears enrolled sites only, and passes on their requests only."""

import hashlib
import http.client
import json
import os
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from deployment.federation import free_port
from deployment.network import IPV6, NGINX, nginx
from waiting import patient, wait_until

from fedtransfer.client.deployment.keys import make_keys
from fedtransfer.client.deployment.tls import site_context
from fedtransfer.server.deployment.certificates import issue_server_certificate, make_authority
from fedtransfer.server.deployment.coordinator import Coordinator, Settings
from fedtransfer.server.deployment.enrolment import enrol, revoke
from fedtransfer.server.deployment.founding import found_coordinator
from fedtransfer.server.deployment.gateway import CONFIGURATION, Gateway, configuration, write_anchors

MIB = 2**20

TRICKS = [
    "/", "/health", "/docs", "/v1", "/v1/control/start-run", "/v1/runtime/get-nodes", "/v1/fleet",
    "/v1/fleet/", "/v1/fleet/../control/start-run", "/v1/fleet/../../v1/control/start-run",
    "/v1/fleet/x/../../control/start-run", "/v1/fleet/..%2fcontrol/start-run",
    "/v1/fleet/..%2Fcontrol%2Fstart-run", "/v1/fleet/%2e%2e/control/start-run",
    "/v1/fleet/.%2e/control/start-run", "/v1/fleet/%2e%2e%2fcontrol/start-run",
    "/v1/fleet/%252e%252e/control/start-run", "/v1/fleet/..;/control/start-run",
    "/v1/fleet/..\\control\\start-run", "/v1/fleet/..%5ccontrol%5cstart-run", "//v1/control/start-run",
    "/v1//control/start-run", "//v1/fleet/../control/start-run", "/v1/fleet//../control/start-run",
    "//v1/fleet/x", "/v1//fleet/x", "/v1/fleet//x", "/./v1/fleet/x", "/v1/control/../fleet/x",
    "/v1/control/..%2ffleet/x", "/v1/control%2f..%2ffleet/x", "/%76%31/control/start-run", "/v1/%66leet/x",
    "/V1/FLEET/x", "/v1/fleet/X", "/v1/fleet/x/", "/v1/fleet/x/y", "/v1/fleet/x?to=/v1/control/start-run",
    "/v1/fleet/x#/../../control/start-run", "/v1/fleet/x%00", "/v1/fleet/x%0a", "/v1/fleet/x%20y",
    "/v1/fleet/x /v1/control/start-run", "/v1/fleet/é", "/../v1/control/start-run", "v1/control/start-run",
    "*",
    "https://localhost/v1/control/start-run", "https://localhost/v1/fleet/../control/start-run",
    "https://localhost/v1/control/../fleet/x", "https://localhost//v1/control/start-run", "https://localhost",
]  # fmt: skip


@dataclass
class Front:
    """A running nginx, and what the server behind it has been asked for."""

    coordinator: Coordinator
    key: Path  # of an enrolled site
    asked: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.coordinator.settings.port

    @property
    def authority(self) -> Path:
        return self.coordinator.certificates / "ca.crt"

    def trust(self) -> ssl.SSLContext:
        return site_context(self.authority, self.key)

    def post(
        self, path: str, body: bytes = b"", host: str = "localhost", trust: ssl.SSLContext | None = None
    ) -> tuple[int, bytes]:
        trust = trust or self.trust()
        connection = http.client.HTTPSConnection(host, self.port, timeout=30, context=trust)
        try:
            connection.request("POST", path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def send(self, raw: bytes) -> list[int]:
        """Send bytes as they are; return the status of each answer."""
        plain = socket.create_connection(("127.0.0.1", self.port), 30)
        with plain, self.trust().wrap_socket(plain, server_hostname="localhost") as tls:
            tls.sendall(raw)
            answers = b"".join(iter(lambda: tls.recv(65536), b""))
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answers)]


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was asked."""

    protocol_version = "HTTP/1.1"
    asked: list[str]

    def do_POST(self) -> None:
        self.asked.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = {"path": self.path, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def superlink(coordinator: Coordinator, certificates: Path, asked: list[str]) -> Iterator[None]:
    """Listen as SuperLink would."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    address = ("127.0.0.1", coordinator.settings.superlink_port)
    server = ThreadingHTTPServer(address, type("Handler", (Echo,), {"asked": asked}))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def found(folder: Path) -> tuple[Coordinator, Path]:
    """Found a coordinator with an enrolled site; return it, and the site's key."""
    hosts, ports = ["localhost", "127.0.0.1", "::1"], {"port": free_port(), "superlink_port": free_port()}
    coordinator = found_coordinator(folder, hosts, **ports, health_port=9093, user="")
    make_keys(folder / "heart.key", "heart")
    enrol(coordinator, folder / "heart.pub")
    write_anchors(coordinator)
    return coordinator, folder / "heart.key"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    if not NGINX:
        pytest.skip("there is no nginx")
    folder = tmp_path_factory.mktemp("front")
    coordinator, key = found(folder / "coordinator of the study")
    asked: list[str] = []
    text = (coordinator.folder / CONFIGURATION).read_text()
    with superlink(coordinator, coordinator.certificates, asked), nginx(folder / "nginx", text):
        yield Front(coordinator, key, asked)


@pytest.mark.process
@pytest.mark.parametrize("size", [0, 6 * MIB])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_sites_get_through_with_all_they_bring(front: Front, size: int, host: str) -> None:
    body = hashlib.shake_128(b"arrays").digest(size)
    status, answer = front.post("/v1/fleet/push-object", body, host)
    assert status == 200
    assert json.loads(answer) == {
        "path": "/v1/fleet/push-object",
        "bytes": size,
        "sha256": hashlib.sha256(body).hexdigest(),
    }


@pytest.mark.process
@pytest.mark.skipif(not IPV6, reason="there is no IPv6")
def test_ipv6_is_served(front: Front) -> None:
    assert front.post("/v1/fleet/pull-messages", host="::1")[0] == 200


@pytest.mark.process
@pytest.mark.parametrize("path", TRICKS)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_only_paths_of_sites_reach_superlink(front: Front, method: str, path: str) -> None:
    front.asked.clear()
    request = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert front.send(request.encode()) in ([400], [403])
    assert front.asked == []


@pytest.mark.process
def test_a_second_request_in_the_same_breath_is_judged_too(front: Front) -> None:
    front.asked.clear()
    first = b"POST /v1/fleet/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    second = (
        b"POST /v1/control/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    assert front.send(first + second) == [200, 403]
    assert front.asked == ["/v1/fleet/x"]


@pytest.mark.process
def test_who_is_refused_is_told_so(front: Front) -> None:
    assert front.post("/v1/control/start-run") == (403, b"Only sites of the federation are served here.\n")


@pytest.mark.process
def test_bodies_have_a_bound(front: Front) -> None:
    front.asked.clear()
    connection = http.client.HTTPSConnection("localhost", front.port, timeout=30, context=front.trust())
    connection.putrequest("POST", "/v1/fleet/push-object")
    connection.putheader("Content-Length", str(9 * MIB))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    assert front.asked == []


@pytest.mark.process
def test_without_tls_nobody_is_heard(front: Front) -> None:
    front.asked.clear()
    with socket.create_connection(("127.0.0.1", front.port), 30) as plain:
        plain.sendall(b"POST /v1/fleet/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        assert plain.recv(65536).startswith(b"HTTP/1.1 400 ")
    assert front.asked == []


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", ["TLSv1_1", "TLSv1_2", "TLSv1_3"])
def test_tls_is_recent(front: Front, version: str) -> None:
    context = front.trust()
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # or the client would not even try TLS 1.1
    with socket.create_connection(("127.0.0.1", front.port), 30) as plain:
        if version == "TLSv1_1":
            with pytest.raises(ssl.SSLError, match=r"(?i)alert.protocol.version|no protocols available"):
                context.wrap_socket(plain, server_hostname="localhost")
        else:
            with context.wrap_socket(plain, server_hostname="localhost") as tls:
                assert tls.version() == version.replace("_", ".")


@pytest.mark.process
def test_nothing_is_passed_to_an_impostor_of_superlink(tmp_path: Path) -> None:
    if not NGINX:
        pytest.skip("there is no nginx")
    coordinator, key = found(tmp_path / "ours")
    make_authority(tmp_path / "theirs", "heart study")
    issue_server_certificate(tmp_path / "theirs", [])
    asked: list[str] = []
    text = (coordinator.folder / CONFIGURATION).read_text()
    with superlink(coordinator, tmp_path / "theirs", asked), nginx(tmp_path / "nginx", text):
        assert Front(coordinator, key).post("/v1/fleet/push-object", b"secret")[0] == 502
    assert asked == []


OUTSIDER = (401, b"Only enrolled sites of the federation are served here.\n")


@pytest.mark.process
def test_an_outsider_is_refused_before_its_body_is_read(front: Front, tmp_path: Path) -> None:
    """Without a certificate, and with one under a key that nobody enrolled."""
    front.asked.clear()
    make_keys(tmp_path / "mallory.key", "heart")
    strangers = (ssl.create_default_context(cafile=front.authority),)
    strangers += (site_context(front.authority, tmp_path / "mallory.key"),)
    for trust in strangers:
        connection = http.client.HTTPSConnection("localhost", front.port, timeout=30, context=trust)
        connection.putrequest("POST", "/v1/fleet/push-object")
        connection.putheader("Content-Length", str(6 * MIB))
        connection.endheaders()  # and no body: the answer does not wait for it
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == OUTSIDER
        connection.close()
    assert front.asked == []


@pytest.mark.process
def test_a_certificate_of_the_authority_lets_no_site_in(front: Front) -> None:
    """The coordinator's certificate is for a server: who has it is no site."""
    trust = ssl.create_default_context(cafile=front.authority)
    certificates = front.coordinator.certificates
    trust.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    assert front.post("/v1/fleet/pull-messages", trust=trust) == OUTSIDER


@pytest.mark.process
def test_enrolment_and_revocation_reach_a_running_nginx(front: Front, tmp_path: Path) -> None:
    make_keys(tmp_path / "lung.key", "lung")
    gateway, trust = Gateway(front.coordinator), site_context(front.authority, tmp_path / "lung.key")

    def status() -> int:
        return front.post("/v1/fleet/pull-messages", trust=trust)[0]

    gateway.follow()
    assert status() == 401
    enrol(front.coordinator, tmp_path / "lung.pub")
    gateway.follow()
    wait_until(lambda: status() == 200, "the enrolled site is let in")
    revoke(front.coordinator, "lung")
    gateway.follow()
    wait_until(lambda: status() == 401, "the revoked site is refused")
    assert front.post("/v1/fleet/pull-messages")[0] == 200, "the other site notices nothing"


@pytest.mark.process
def test_a_sites_requests_at_a_time_are_bounded_and_not_those_of_its_address(
    front: Front, tmp_path: Path
) -> None:
    """Sites may share an address: what counts is the key."""
    make_keys(tmp_path / "eye.key", "eye")
    enrol(front.coordinator, tmp_path / "eye.pub")
    Gateway(front.coordinator).follow()
    neighbour = site_context(front.authority, tmp_path / "eye.key")
    path = "/v1/fleet/pull-messages"
    wait_until(lambda: front.post(path, trust=neighbour)[0] == 200, "the neighbour is let in")
    greedy, begin = front.trust(), len(front.asked)
    with ExitStack() as opened:
        for _ in range(32):
            connection = http.client.HTTPSConnection("localhost", front.port, timeout=30, context=greedy)
            opened.callback(connection.close)
            connection.putrequest("POST", path)
            connection.putheader("Content-Length", "1")
            connection.endheaders()  # the one byte never comes
        wait_until(lambda: len(front.asked) == begin + 32, "32 requests are under way")
        assert front.post(path)[0] == 503
        assert front.post(path, trust=neighbour)[0] == 200


@pytest.mark.process
def test_a_number_that_is_no_nginx_gets_no_signal(tmp_path: Path) -> None:
    """A killed nginx leaves its number, which another process may have by now."""
    coordinator, _ = found(tmp_path / "coordinator")
    (coordinator.state / "nginx.pid").write_text(f"{os.getpid()}\n")
    Gateway(coordinator).follow()  # SIGHUP would end this process


ABRUPT = struct.pack("ii", 1, 0)  # closed without a state that would hold the port for a minute


@pytest.mark.process
@pytest.mark.parametrize("kind", ["silent", "in the handshake", "in the headers"])
def test_connections_of_an_outsider_keep_no_site_out(front: Front, kind: str) -> None:
    """400 of them, from several addresses: a stock nginx has no room for a site with 768 in all."""
    anybody = ssl.create_default_context(cafile=front.authority)
    hello = hello_of(anybody)
    with ExitStack() as opened:
        for number in range(1000):
            plain = socket.create_connection(
                ("127.0.0.1", front.port), 30, source_address=(f"127.0.0.{2 + number % 50}", 0)
            )
            opened.enter_context(plain)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPT)
            if kind == "in the handshake":
                plain.sendall(hello[: len(hello) // 2])
            elif kind == "in the headers" and number < 100:
                tls = opened.enter_context(anybody.wrap_socket(plain, server_hostname="localhost"))
                tls.sendall(b"POST /v1/fleet/push-object HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        began = time.monotonic()
        assert front.post("/v1/fleet/pull-messages")[0] == 200
        assert time.monotonic() - began < patient(2)


@pytest.mark.process
def test_who_stays_silent_is_cut_off(tmp_path: Path) -> None:
    if not NGINX:
        pytest.skip("there is no nginx")
    coordinator, _ = found(tmp_path / "coordinator")
    text = (coordinator.folder / CONFIGURATION).read_text()
    assert "client_header_timeout 10s;" in text
    brief = text.replace("client_header_timeout 10s;", "client_header_timeout 1s;")
    with (
        nginx(tmp_path / "nginx", brief),
        socket.create_connection(("127.0.0.1", coordinator.settings.port), 30) as plain,
        suppress(ConnectionResetError),
    ):
        assert plain.recv(1) == b""


def hello_of(context: ssl.SSLContext) -> bytes:
    """Return the first bytes of a TLS handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def test_addresses_are_written_as_nginx_wants_them(tmp_path: Path) -> None:
    hosts = ("fl.example.org", "192.0.2.7", "2001:db8::7")
    text = configuration(Coordinator(Path("/srv/fl study"), Settings(hosts=hosts)))
    assert "server_name fl.example.org 192.0.2.7 [2001:db8::7];" in text
    assert 'ssl_certificate_key "/srv/fl study/certificates/server.key";' in text
