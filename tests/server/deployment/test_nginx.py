"""The site of nginx: only what sites may ask reaches SuperLink."""

import hashlib
import http.client
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from deployment.federation import free_port
from deployment.network import IPV6, NGINX, nginx

from fedtransfer.server.deployment.certificates import issue_server_certificate, make_authority
from fedtransfer.server.deployment.founding import nginx_site

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

    port: int
    authority: Path
    asked: list[str] = field(default_factory=list)

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.authority)

    def post(self, path: str, body: bytes = b"", host: str = "localhost") -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(host, self.port, timeout=30, context=self.trust())
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
def superlink(certificates: Path, asked: list[str]) -> Iterator[int]:
    """Listen as SuperLink would; yield the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Echo,), {"asked": asked}))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def front_of(folder: Path, certificates: Path, superlink_port: int) -> Iterator[int]:
    """Run nginx with the generated file; yield the port."""
    port = free_port()
    with nginx(folder, nginx_site(["localhost", "127.0.0.1", "::1"], port, superlink_port, certificates)):
        yield port


def make_certificates(folder: Path) -> Path:
    make_authority(folder, "heart study")
    issue_server_certificate(folder, [])
    return folder


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    if not NGINX:
        pytest.skip("there is no nginx")
    folder = tmp_path_factory.mktemp("front")
    certificates, asked = make_certificates(folder / "certificates of the study"), []
    with superlink(certificates, asked) as behind, front_of(folder / "nginx", certificates, behind) as port:
        yield Front(port, certificates / "ca.crt", asked)


@pytest.mark.process
@pytest.mark.parametrize("size", [0, 6 * MIB, 30 * MIB])
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
    connection.putheader("Content-Length", str(65 * MIB))
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
    ours, theirs, asked = make_certificates(tmp_path / "ours"), make_certificates(tmp_path / "theirs"), []
    with superlink(theirs, asked) as behind, front_of(tmp_path / "nginx", ours, behind) as port:
        assert Front(port, ours / "ca.crt").post("/v1/fleet/push-object", b"secret")[0] == 502
    assert asked == []


def test_addresses_are_written_as_nginx_wants_them() -> None:
    site = nginx_site(
        ["fl.example.org", "192.0.2.7", "2001:db8::7"], 9443, 9092, Path("/srv/fl/certificates")
    )
    assert "server_name fl.example.org 192.0.2.7 [2001:db8::7];" in site
    assert 'ssl_certificate_key "/srv/fl/certificates/server.key";' in site
