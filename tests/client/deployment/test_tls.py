"""A site's TLS settings: what they need, and that the coordinator's anchor tells sites apart."""

import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fedtransfer.client.deployment.keys import load_keys, make_keys
from fedtransfer.client.deployment.tls import site_context
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.site_certificates import trust_anchor
from fedtransfer.server.deployment.certificates import issue_server_certificate, make_authority


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_authority(tmp_path, "heart study")
    issue_server_certificate(tmp_path, [])
    for name in ("heart", "lung"):
        make_keys(tmp_path / f"{name}.key", name)
    return tmp_path


def is_let_in(folder: Path, key: Path, anchor: bytes) -> bool:
    """Have a site connect to a server that trusts this anchor alone."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.crt", folder / "server.key")
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(cadata=anchor.decode())
    here, there = socket.socketpair()
    outcome: list[bool] = []

    def accept() -> None:
        try:
            with server.wrap_socket(there, server_side=True) as tls:
                tls.sendall(b".")
            outcome.append(True)
        except OSError:
            outcome.append(False)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        with site_context(folder / "ca.crt", key).wrap_socket(here, server_hostname="localhost") as tls:
            tls.recv(1)
    except OSError:  # refused
        pass
    thread.join()
    return outcome[0]


def test_an_anchor_lets_its_site_in_and_no_other(folder: Path) -> None:
    heart, lung = folder / "heart.key", folder / "lung.key"
    anchor = trust_anchor(load_keys(heart)[1])
    assert is_let_in(folder, heart, anchor)
    assert not is_let_in(folder, lung, anchor)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_an_anchor_is_of_any_curve_that_a_site_may_have(curve: ec.EllipticCurve) -> None:
    assert trust_anchor(ec.generate_private_key(curve).public_key()).startswith(b"-----BEGIN CERTIFICATE")


def test_a_missing_or_damaged_authority_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.crt: No such file .*; ask the coordinator's people for ca"):
        site_context(folder / "nowhere.crt", folder / "heart.key")
    (folder / "damaged.crt").write_text("moth-eaten")
    with pytest.raises(UserError, match=r"damaged.crt: expected a certificate in PEM form; ask the"):
        site_context(folder / "damaged.crt", folder / "heart.key")
