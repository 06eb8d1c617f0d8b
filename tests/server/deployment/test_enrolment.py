import base64
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from typer.testing import CliRunner

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.keys import fingerprint, read_roster
from fedtransfer.server.cli import server
from fedtransfer.server.deployment.coordinator import Coordinator
from fedtransfer.server.deployment.enrolment import (
    EnrolledSite,
    enrol,
    enrolled_sites,
    readable_sites,
    revoke,
)
from fedtransfer.server.deployment.founding import found_coordinator
from fedtransfer.server.deployment.superlink import Node
from fedtransfer.server.deployment.synchronisation import synchronise


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return found_coordinator(
        tmp_path / "coordinator", ["localhost"], port=9443, superlink_port=9092, health_port=9093, user=""
    )


def public(key: object, comment: str = "") -> str:
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()  # type: ignore[attr-defined]
    return f"{line} {comment}".strip() + "\n"


def key_file(path: Path, comment: str = "anna", key: object = None) -> Path:
    path.write_text(public(key or ec.generate_private_key(ec.SECP384R1()), comment))
    return path


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_keys_that_flower_takes(coordinator: Coordinator, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    site = enrol(coordinator, key_file(tmp_path / "site.pub", "anna", key))
    assert enrolled_sites(coordinator) == [site]
    assert site.name == "anna"
    assert site.pem == key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert site.fingerprint == fingerprint(public(key))
    assert (coordinator.folder / "sites" / "anna.pub").read_text() == public(key, "anna")


def test_the_coordinator_decides_the_name(coordinator: Coordinator, tmp_path: Path) -> None:
    key = key_file(tmp_path / "site.pub", "St. Anna, Aachen")
    with pytest.raises(UserError, match=r"'St\. Anna, Aachen' .* --name"):
        enrol(coordinator, key)
    assert enrol(coordinator, key, "st.anna").name == "st.anna"
    assert [site.name for site in enrolled_sites(coordinator)] == ["st.anna"]


@pytest.mark.parametrize(
    "name", ["", "../anna", ".anna", "-anna", "an na", "anna/bert", "anna\n", "änna", "a" * 65]
)
def test_names_that_cannot_be_one(coordinator: Coordinator, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"cannot be a site's name"):
        enrol(coordinator, key_file(tmp_path / "site.pub", ""), name)
    assert enrolled_sites(coordinator) == []


def test_a_private_key_given_by_mistake(coordinator: Coordinator, tmp_path: Path) -> None:
    secret = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
    )
    (tmp_path / "site.key").write_bytes(secret)
    with pytest.raises(UserError) as caught:
        enrol(coordinator, tmp_path / "site.key", "anna")
    for words in ("expected a public key in OpenSSH's form",
                  "this looks like a PRIVATE key, which must never leave its",
                  "ask for the file site.pub"):  # fmt: skip
        assert words in str(caught.value)
    assert secret.decode().splitlines()[2] not in str(caught.value)
    assert not list((coordinator.folder / "sites").iterdir())


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"\xff\xfe\x00binary", b"ecdsa-sha2-nistp384 AAAA anna", b"ecdsa-sha2-nistp384",
     b"-----BEGIN PUBLIC KEY-----\n", b"sk-unheard-of@example.org " + base64.b64encode(b"\0" * 40)],
)  # fmt: skip
def test_what_is_no_key(coordinator: Coordinator, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "site.pub").write_bytes(content)
    with pytest.raises(UserError, match=r"site\.pub: expected a public key .*; got no key"):
        enrol(coordinator, tmp_path / "site.pub", "anna")


def test_no_file(coordinator: Coordinator, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.pub: No such file or directory; expected "):
        enrol(coordinator, tmp_path / "gone.pub")


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (ed25519.Ed25519PrivateKey.generate(), "ssh-ed25519"),
        (rsa.generate_private_key(65537, 2048), "ssh-rsa"),
    ],
)
def test_kinds_of_keys_that_flower_does_not_take(
    coordinator: Coordinator, tmp_path: Path, key: object, kind: str
) -> None:
    with pytest.raises(UserError, match=rf"P-256, P-384 .*got {kind}; "):
        enrol(coordinator, key_file(tmp_path / "site.pub", "anna", key))


def test_a_name_or_a_key_that_is_enrolled_already(coordinator: Coordinator, tmp_path: Path) -> None:
    anna = enrol(coordinator, key_file(tmp_path / "anna.pub"))
    with pytest.raises(UserError, match=r"another key; .* server revoke anna"):
        enrol(coordinator, key_file(tmp_path / "other.pub"))
    with pytest.raises(UserError, match=r"key is enrolled already, as anna"):
        enrol(coordinator, tmp_path / "anna.pub", "bert")
    with pytest.raises(UserError, match=r"this key is enrolled already, as anna"):
        enrol(coordinator, tmp_path / "anna.pub")
    assert enrolled_sites(coordinator) == [anna]


def test_a_revoked_key_comes_back_under_no_name(coordinator: Coordinator, tmp_path: Path) -> None:
    enrol(coordinator, key_file(tmp_path / "old.pub"))
    revoke(coordinator, "anna")
    assert enrolled_sites(coordinator) == []
    for name in ("anna", "bert"):
        with pytest.raises(UserError, match=r"revoked.* client new-key"):
            enrol(coordinator, tmp_path / "old.pub", name)
    new = enrol(coordinator, key_file(tmp_path / "new.pub"))
    assert enrolled_sites(coordinator) == [new]
    revoke(coordinator, "anna")
    for file in ("old.pub", "new.pub"):
        with pytest.raises(UserError, match="was revoked"):
            enrol(coordinator, tmp_path / file)


def test_two_keys_of_one_name_revoked_within_a_second_are_both_remembered(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    for file in ("one.pub", "two.pub"):
        enrol(coordinator, key_file(tmp_path / file))
        revoke(coordinator, "anna")
    for file in ("one.pub", "two.pub"):
        with pytest.raises(UserError, match="was revoked"):
            enrol(coordinator, tmp_path / file)


@pytest.mark.parametrize("name", ["bert", "../sites/anna", ""])
def test_revoking_who_is_not_there(coordinator: Coordinator, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"'{name}' is enrolled; .*: none"):
        revoke(coordinator, name)
    enrol(coordinator, key_file(tmp_path / "anna.pub"))
    enrol(coordinator, key_file(tmp_path / "zoe.pub", "zoe"))
    with pytest.raises(UserError, match=rf"'{name}' is enrolled; .*: anna, zoe"):
        revoke(coordinator, name)


class Known:
    """What SuperLink would know."""

    def __init__(self, *sites: EnrolledSite) -> None:
        self.listed = [
            Node(number, site.name, site.pem, "online", None) for number, site in enumerate(sites, 1)
        ]
        self.done: list[tuple[str, object]] = []

    def nodes(self) -> list[Node]:
        return self.listed

    def register(self, public_key: bytes, name: str) -> None:
        self.done.append(("register", name))

    def unregister(self, node_id: int) -> None:
        self.done.append(("unregister", node_id))


def test_superlink_is_brought_in_line(coordinator: Coordinator, tmp_path: Path) -> None:
    anna, bert, carl = (
        enrol(coordinator, key_file(tmp_path / f"{name}.pub", name)) for name in ("anna", "bert", "carl")
    )
    known = Known(anna, bert)
    synchronise(coordinator, known)  # type: ignore[arg-type]
    assert known.done == [("register", "carl")]
    revoke(coordinator, "bert")
    renewed = enrol(coordinator, key_file(tmp_path / "new.pub", "bert"))
    known = Known(anna, bert, carl)
    synchronise(coordinator, known)  # type: ignore[arg-type]
    assert known.done == [("unregister", 2), ("register", "bert")], "the name is free before it is given anew"
    known = Known(anna, renewed, carl)
    synchronise(coordinator, known)  # type: ignore[arg-type]
    assert known.done == []


def test_public_keys_only_lie_in_the_folder(coordinator: Coordinator, tmp_path: Path) -> None:
    enrol(coordinator, key_file(tmp_path / "anna.pub"))
    (coordinator.folder / "sites" / "README").write_text("by hand")
    os.mkdir(coordinator.folder / "sites" / "more")
    assert [site.name for site in enrolled_sites(coordinator)] == ["anna"]


def test_a_damaged_key_file_holds_up_nobody_else(coordinator: Coordinator, tmp_path: Path) -> None:
    anna, _, _ = (enrol(coordinator, key_file(tmp_path / f"{n}.pub", n)) for n in ("anna", "bert", "carl"))
    revoke(coordinator, "anna")
    (coordinator.folder / "sites" / "bert.pub").write_text("torn")
    known = Known(anna)
    with pytest.raises(UserError, match=r"bert\.pub: expected a public key"):
        synchronise(coordinator, known)  # type: ignore[arg-type]
    assert known.done == [("unregister", 1), ("register", "carl")]
    with pytest.raises(UserError, match=r"bert\.pub: expected a public key"):
        enrolled_sites(coordinator)
    sites, [damage] = readable_sites(coordinator)
    assert [site.name for site in sites] == ["carl"]
    assert "bert.pub: expected a public key" in damage


@pytest.mark.parametrize("damage", ["", "torn", "ecdsa-sha2-nistp384 AAAA"])
def test_a_damaged_key_file_is_written_again_from_superlinks_database(
    coordinator: Coordinator, tmp_path: Path, damage: str
) -> None:
    anna = enrol(coordinator, key_file(tmp_path / "anna.pub", "anna"))
    (coordinator.folder / "sites" / "anna.pub").write_text(damage)
    known = Known(anna)
    with pytest.raises(UserError, match=r"anna\.pub: .* It was written again from SuperLink's database"):
        synchronise(coordinator, known)  # type: ignore[arg-type]
    assert known.done == [], "anna stays as she was"
    assert enrolled_sites(coordinator) == [anna]
    synchronise(coordinator, known)  # type: ignore[arg-type]


def test_the_roster_that_sites_compare(coordinator: Coordinator, tmp_path: Path) -> None:
    sites = [enrol(coordinator, key_file(tmp_path / f"{name}.pub", name)) for name in ("bert", "st.anna")]
    shown = CliRunner().invoke(server, ["roster", "--dir", str(coordinator.folder)])
    (tmp_path / "roster.toml").write_text(shown.output)
    assert read_roster(tmp_path / "roster.toml").sites == {site.name: site.fingerprint for site in sites}


def test_a_site_that_is_revoked_meanwhile_stays_out(
    coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key file is listed, and gone when it is read: it is not damaged."""
    anna = enrol(coordinator, key_file(tmp_path / "anna.pub", "anna"))
    known = Known(anna)
    nodes = known.nodes

    def revoked_meanwhile() -> list[object]:
        listed = nodes()
        revoke(coordinator, "anna")
        return listed

    monkeypatch.setattr(known, "nodes", revoked_meanwhile)
    synchronise(coordinator, known)  # type: ignore[arg-type]
    assert known.done == [("unregister", 1)]
    assert enrolled_sites(coordinator) == []
