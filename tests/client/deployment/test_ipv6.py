"""A coordinator by its IPv6 address: every step of the check works with it."""

import http.server
import socket
import ssl
import threading
from pathlib import Path

import pytest
from deployment.network import IPV6

from fedtransfer.client.deployment import preflight
from fedtransfer.client.deployment.keys import make_keys
from fedtransfer.client.deployment.preflight import check_site
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.server.deployment.certificates import issue_server_certificate, make_authority


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


def test_the_check_of_a_site_with_an_ipv6_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not IPV6:
        pytest.skip("IPv6 is switched off")
    monkeypatch.setattr(preflight, "_images", lambda site, decode_all: ("ok", ""))
    monkeypatch.setattr(preflight, "_backbone", lambda site: ("ok", ""))
    make_authority(tmp_path, "a federation")
    issue_server_certificate(tmp_path, ["::1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    with Server(("::1", 0), http.server.SimpleHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"[::1]:{server.server_address[1]}"
        (tmp_path / "site.toml").write_text(f'name = "a"\ncoordinator = "{address}"\ndata = "images"\n')
        make_keys(tmp_path / "site.key", "a")
        findings = {each.subject: each for each in check_site(SiteFolder.open(tmp_path), images=False)}
        server.shutdown()
    assert [findings[subject].level for subject in ("network", "certificate", "clock")] == ["ok"] * 3
    proxy = f"a proxy in front of SuperLink at {address} answers HTTP 501"  # it has no POST
    assert findings["enrolment"].text.startswith(proxy)
