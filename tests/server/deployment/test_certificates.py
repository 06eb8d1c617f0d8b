import errno
import hashlib
import os
import socket
import ssl
import stat
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.keys import close_keys
from fedtransfer.server.deployment.certificates import (
    CA_DAYS,
    SERVER_DAYS,
    expiry_warnings,
    issue_server_certificate,
    make_authority,
    read_certificate,
    renew_authority,
)

FILES = ("ca.key", "ca.crt", "server.key", "server.crt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The certificates of a coordinator."""
    make_authority(tmp_path / "certificates", "heart study")
    issue_server_certificate(tmp_path / "certificates", ["fl.example.org"])
    return tmp_path / "certificates"


def shake_hands(folder: Path, host: str = "localhost", authority: Path | None = None) -> None:
    """Connect to a server with the folder's certificate, as a site that trusts ``authority``."""

    def serve() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
        connection, _ = listener.accept()
        with connection, suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True) as tls:
            tls.sendall(b"hello")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        server = threading.Thread(target=serve)
        server.start()
        context = ssl.create_default_context(cafile=authority or folder / "ca.crt")
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # from Python 3.13 on everybody's default
        try:
            raw = socket.create_connection(listener.getsockname(), 10)
            with raw, context.wrap_socket(raw, server_hostname=host) as tls:
                assert tls.recv(5) == b"hello"
        finally:
            server.join()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "fl.example.org", "FL.example.org"])
def test_sites_connect_under_the_names_of_the_coordinator(folder: Path, host: str) -> None:
    shake_hands(folder, host)


@pytest.mark.parametrize("host", ["other.example.org", "example.org", "127.0.0.2"])
def test_sites_connect_under_no_other_name(folder: Path, host: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"[Hh]ostname mismatch|IP address mismatch"):
        shake_hands(folder, host)


def test_sites_trust_no_other_authority(folder: Path, tmp_path: Path) -> None:
    make_authority(tmp_path / "other", "heart study")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"unable to get local issuer|signature failure"):
        shake_hands(folder, authority=tmp_path / "other" / "ca.crt")


def test_an_expired_certificate_is_refused_and_a_new_one_is_not(folder: Path) -> None:
    issue_server_certificate(folder, [], 1, now=datetime.now(UTC) - timedelta(days=2))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(folder)
    issue_server_certificate(folder, [])
    shake_hands(folder)


def loaded(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_a_renewed_authority_vouches_for_what_it_signed_before(folder: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.crt"
    old.write_bytes((folder / "ca.crt").read_bytes())
    renew_authority(folder, CA_DAYS + 100)
    before, after = read_certificate(old), read_certificate(folder / "ca.crt")
    assert (before.days_left, after.days_left) == (CA_DAYS - 1, CA_DAYS + 99)
    assert loaded(old).subject == loaded(folder / "ca.crt").subject
    shake_hands(folder)
    issue_server_certificate(folder, [])
    shake_hands(folder)
    shake_hands(folder, authority=old)


def test_an_expired_authority_signs_nothing_until_it_is_renewed(folder: Path) -> None:
    with pytest.raises(UserError, match=r"ca\.crt expired on .* server renew --authority"):
        issue_server_certificate(folder, [], now=datetime.now(UTC) + timedelta(days=CA_DAYS + 1))
    renew_authority(folder, 0)
    with pytest.raises(UserError, match="expired"):
        issue_server_certificate(folder, [])
    renew_authority(folder)
    issue_server_certificate(folder, [])
    shake_hands(folder)


def test_what_a_certificate_says(folder: Path) -> None:
    issue_server_certificate(
        folder, ["192.0.2.7", "Fl.Example.org", "fl.example.org", "localhost", "2001:db8:0::7"]
    )
    server, authority = read_certificate(folder / "server.crt"), read_certificate(folder / "ca.crt")
    assert server.hosts == ("192.0.2.7", "fl.example.org", "localhost", "2001:db8::7", "127.0.0.1", "::1")
    assert authority.hosts == ()
    subjects = [loaded(folder / name).subject.rfc4514_string() for name in ("server.crt", "ca.crt")]
    assert subjects == ["CN=fedtransfer coordinator", "CN=heart study"]
    assert (server.path, server.days_left, authority.days_left) == (
        folder / "server.crt",
        SERVER_DAYS - 1,
        CA_DAYS - 1,
    )
    skew = datetime.now(UTC) - loaded(folder / "server.crt").not_valid_before_utc
    assert timedelta(hours=1) <= skew < timedelta(hours=1, minutes=5)
    der = ssl.PEM_cert_to_DER_cert((folder / "server.crt").read_text())
    assert server.sha256 == hashlib.sha256(der).digest().hex(":").upper()


def test_a_server_certificate_never_outlives_the_authority(tmp_path: Path) -> None:
    make_authority(tmp_path, "short", 10)
    issue_server_certificate(tmp_path, [])
    assert (
        read_certificate(tmp_path / "server.crt").not_after == read_certificate(tmp_path / "ca.crt").not_after
    )


def test_each_key_serves_one_purpose(folder: Path) -> None:
    authority, server = loaded(folder / "ca.crt"), loaded(folder / "server.crt")
    server.verify_directly_issued_by(authority)
    for certificate, curve, constraints in (
        (authority, ec.SECP384R1, x509.BasicConstraints(ca=True, path_length=0)),
        (server, ec.SECP256R1, x509.BasicConstraints(ca=False, path_length=None)),
    ):
        key, extensions = certificate.public_key(), certificate.extensions
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, curve)
        assert extensions.get_extension_for_class(x509.BasicConstraints).value == constraints
        assert {e.value.__class__ for e in extensions if e.critical} == {x509.BasicConstraints, x509.KeyUsage}
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        assert usage.key_cert_sign == usage.crl_sign == constraints.ca
        assert usage.digital_signature != constraints.ca


def test_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        make_authority(tmp_path, "heart study")
        issue_server_certificate(tmp_path, [])
    finally:
        os.umask(umask)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in FILES] == [0o600, 0o644, 0o600, 0o644]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(FILES)


def test_key_and_certificate_are_replaced_together_or_not_at_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, writes = [(folder / name).read_bytes() for name in FILES], iter(range(2))

    def full(descriptor: int) -> None:
        if next(writes) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"certificates: cannot be written: .*another folder"):
        issue_server_certificate(folder, [])
    assert [(folder / name).read_bytes() for name in FILES] == before


def test_an_authority_is_never_replaced(folder: Path) -> None:
    before = (folder / "ca.key").read_bytes()
    with pytest.raises(UserError, match=r"ca\.key already exists, .* another folder"):
        make_authority(folder, "again")
    assert (folder / "ca.key").read_bytes() == before


@pytest.mark.parametrize("name", ["", "n" * 65, "ä" * 33])
def test_the_authority_needs_a_name_that_fits(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="expected a name of 1 to 64 bytes"):
        make_authority(tmp_path, name)
    make_authority(tmp_path, "ä" * 32)


@pytest.mark.parametrize(
    "host",
    ["", " ", "two words", "https://fl.example.org", "fl.example.org:9443", "192.0.2.7:9443", "[::1]",
     "fl.example.org/x", "-fl.example.org", "fl..example.org", "fl.example.org.", "*.example.org",
     "münchen.example", "192.0.2.777", "a" * 64, "a." * 127 + "org", "fl.example.org\n"],
)  # fmt: skip
def test_what_is_no_host_is_refused(folder: Path, host: str) -> None:
    with pytest.raises(UserError, match=r"expected a host name or an IP address") as caught:
        issue_server_certificate(folder, ["fine.example.org", host])
    assert repr(host) in str(caught.value)


def test_missing_and_damaged_files_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none/ca\.crt: .*No such file .* server init"):
        issue_server_certificate(tmp_path / "none", [])
    with pytest.raises(UserError, match=r"server\.crt: cannot be read"):
        read_certificate(tmp_path / "none" / "server.crt")
    (folder / "server.crt").write_text("-----BEGIN CERTIFICATE-----\nmoth-eaten\n-----END CERTIFICATE-----\n")
    with pytest.raises(UserError, match=r"server\.crt: expected a certificate in PEM"):
        read_certificate(folder / "server.crt")
    make_authority(tmp_path / "other", "other")
    (folder / "ca.key").write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    with pytest.raises(UserError, match=r"ca\.key .*not the key of .*ca\.crt"):
        renew_authority(folder)
    (folder / "ca.key").write_text("moth-eaten")
    with pytest.raises(UserError, match=r"ca\.key: expected .*private key"):
        renew_authority(folder)


def test_expiry_is_told_in_time(folder: Path) -> None:
    assert expiry_warnings(folder) == []
    issue_server_certificate(folder, [], 30)
    day = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"
    assert expiry_warnings(folder) == [
        f"{folder / 'server.crt'} expires on {day} (days left: 29); run fedtransfer server renew"
    ]
    renew_authority(folder, 10)
    issue_server_certificate(folder, [], 1, now=datetime.now(UTC) - timedelta(days=2))
    authority, server = expiry_warnings(folder)
    assert authority.endswith(
        "(days left: 9); run fedtransfer server renew --authority, then give every site the new ca.crt"
    )
    day = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
    assert (
        server
        == f"{folder / 'server.crt'} expired on {day}, so no site can connect; run fedtransfer server renew"
    )
    (folder / "server.crt").unlink()
    with pytest.raises(UserError, match=r"server\.crt: cannot be read"):
        expiry_warnings(folder)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_keys_that_others_may_read_are_closed_in_words(tmp_path: Path, mode: int) -> None:
    make_authority(tmp_path, "a federation")
    issue_server_certificate(tmp_path, ["localhost"])
    keys = [tmp_path / "ca.key", tmp_path / "server.key"]
    assert close_keys(*keys, tmp_path / "offline.key") == []
    for key in keys:
        key.chmod(mode)
    with pytest.raises(UserError, match=r"ca\.key: others on this machine may read it; run: chmod 600"):
        issue_server_certificate(tmp_path, ["localhost"])
    for key, sentence in zip(keys, close_keys(*keys), strict=True):
        assert f"{key}: others on this machine might read it (mode {mode:04o})" in sentence
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert close_keys(*keys) == []
