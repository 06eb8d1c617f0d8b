import base64
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fedtransfer.client.deployment.keys import load_keys, make_keys, write_public
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.keys import fingerprint


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A site's private key; the public one is beside it."""
    make_keys(tmp_path / "site.key", "anna")
    return tmp_path / "site.key"


def test_the_private_key_is_the_owners_alone_from_its_first_moment(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        line = make_keys(tmp_path / "site.key", "anna")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "site.key").stat().st_mode) == 0o600
    private, public = load_keys(tmp_path / "site.key")
    assert isinstance(private.curve, ec.SECP384R1)
    assert public == private.public_key()
    assert (tmp_path / "site.pub").read_text() == line + "\n"
    assert line.startswith("ecdsa-sha2-nistp384 ")
    assert line.endswith(" anna")
    assert "PRIVATE" not in line


def ssh_keygen(*words: str) -> str:
    if not shutil.which("ssh-keygen"):
        pytest.skip("there is no ssh-keygen")
    return subprocess.run(["ssh-keygen", *words], capture_output=True, text=True, check=True).stdout


@pytest.mark.process
def test_fingerprint_is_that_of_ssh_keygen(key: Path) -> None:
    listed = ssh_keygen("-lf", str(key.with_suffix(".pub")))
    assert fingerprint(key.with_suffix(".pub").read_text()) == listed.split()[1]


def test_a_key_is_never_overwritten(key: Path) -> None:
    before = key.read_bytes()
    with pytest.raises(FileExistsError):
        make_keys(key, "anna")
    assert key.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_refused(key: Path, mode: int) -> None:
    key.chmod(mode)
    with pytest.raises(UserError, match=rf"chmod 600 {key}"):
        load_keys(key)
    key.chmod(0o600)
    load_keys(key)


def test_no_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"site\.key: .*fedtransfer client new-key"):
        load_keys(tmp_path / "site.key")


def test_a_key_of_another_kind_is_refused(key: Path) -> None:
    other = ed25519.Ed25519PrivateKey.generate()
    key.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    with pytest.raises(UserError, match=r"site\.key: .*fedtransfer client new-key"):
        load_keys(key)


@pytest.mark.process
def test_a_key_with_a_passphrase_is_refused(key: Path) -> None:
    ssh_keygen("-p", "-N", "open sesame", "-f", str(key))
    with pytest.raises(UserError, match=r"OpenSSH.* passphrase"):
        load_keys(key)


def unknown_kind(secret: bytes) -> bytes:
    lines = secret.split(b"\n")
    body = base64.b64decode(b"".join(lines[1:-2])).replace(b"ecdsa-sha2-nistp384", b"ecdsa-sha2-nistp999")
    return b"\n".join([lines[0], base64.b64encode(body), *lines[-2:]])


@pytest.mark.parametrize(
    "damage", [lambda b: b[:200], lambda b: b"", lambda b: b"\xff\0" + b[50:], unknown_kind]
)
def test_a_damaged_key_is_refused(key: Path, damage: object) -> None:
    key.write_bytes(damage(key.read_bytes()))  # type: ignore[operator]
    with pytest.raises(UserError, match=r"site\.key: .*OpenSSH.* passphrase"):
        load_keys(key)


@pytest.mark.parametrize("damage", [None, b"", b"torn", b"\xff\0"])
def test_a_damaged_public_key_is_written_again(key: Path, damage: bytes | None) -> None:
    public = key.with_suffix(".pub")
    before = public.read_text()
    if damage is None:
        public.unlink()
    else:
        public.write_bytes(damage)
    assert write_public(key, "anna") + "\n" == before
    assert public.read_text() == before


def test_a_whole_public_key_stays_as_it_is(key: Path) -> None:
    public = key.with_suffix(".pub")
    public.write_text(public.read_text().replace(" anna", " another comment"))
    before = public.stat().st_mtime_ns
    assert write_public(key, "anna").endswith(" another comment")
    assert public.stat().st_mtime_ns == before
