"""Whom a site shares masks with: by the coordinator's word, or by its own people's."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from small_onnx import network, saved
from typer.testing import CliRunner

from fedtransfer.client.cli import client
from fedtransfer.client.deployment import preflight
from fedtransfer.client.deployment.founding import found_site, replace_key
from fedtransfer.client.deployment.keys import SiteIdentity
from fedtransfer.client.deployment.preflight import check_site
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.client.node import Node, deployed_node
from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.support.keys import Identity, fingerprint, roster_text

NAMES = ("anna", "bert", "carl")


@pytest.fixture
def sites(tmp_path: Path) -> dict[str, SiteFolder]:
    (tmp_path / "images").mkdir()
    return {
        name: found_site(tmp_path / name, name, "localhost:9443", None, tmp_path / "images") for name in NAMES
    }


def line(site: SiteFolder) -> str:
    return site.key.with_suffix(".pub").read_text().strip()


def lines(sites: dict[str, SiteFolder]) -> dict[str, str]:
    """What an honest coordinator tells."""
    return {name: line(site) for name, site in sites.items()}


def pin(site: SiteFolder, fingerprints: dict[str, str]) -> None:
    settings = site.folder / "site.toml"
    settings.write_text(settings.read_text().replace('roster = ""', 'roster = "roster.toml"'))
    (site.folder / "roster.toml").write_text(roster_text(fingerprints))


def pin_all(sites: dict[str, SiteFolder]) -> None:
    for site in sites.values():
        pin(site, {name: fingerprint(line) for name, line in lines(sites).items()})


def identity(site: SiteFolder, told: dict[str, str], name: str = "") -> SiteIdentity:
    return deployed_node(str(site.folder)).identity(name or site.settings.name, told)


def refusal(site: SiteFolder, told: dict[str, str], name: str = "") -> SiteError:
    with pytest.raises(SiteError) as caught:
        identity(site, told, name)
    assert str(site.folder) not in caught.value.text, "it is sent to the coordinator"
    return caught.value


def test_a_simulated_site_signs_nothing(tmp_path: Path) -> None:
    assert Node("images", tmp_path).identity("anna", {}) is None


@pytest.mark.parametrize("pinned", [False, True])
def test_sites_know_each_other_by_signature(sites: dict[str, SiteFolder], pinned: bool) -> None:
    if pinned:
        pin_all(sites)
    told = lines(sites)
    known: dict[str, Identity] = {name: identity(site, told) for name, site in sites.items()}
    signature = known["anna"].sign(b"survivors")
    for name in NAMES:
        known[name].verify("anna", b"survivors", signature)
        for who, data in (("bert", b"survivors"), ("anna", b"survivors and one more")):
            with pytest.raises(SiteError, match=f"'{who}' is not signed") as caught:
                known[name].verify(who, data, signature)
            assert caught.value.code == "wrong-signature"
    with pytest.raises(SiteError, match="no key for 'dora'"):
        known["bert"].verify("dora", b"survivors", signature)


def test_without_a_roster_an_invented_site_is_believed(sites: dict[str, SiteFolder]) -> None:
    """That is what a roster is for."""
    invented = ec.generate_private_key(ec.SECP384R1())
    told = lines(sites) | {"zoe": openssh(invented)}
    assert "zoe" in identity(sites["anna"], told).peers


def test_with_a_roster_an_invented_site_is_refused_by_name(sites: dict[str, SiteFolder]) -> None:
    pin_all(sites)
    key = openssh(ec.generate_private_key(ec.SECP384R1()))
    told = refusal(sites["anna"], lines(sites) | {"zoe": key})
    assert told.code == "not-on-roster"
    for fact in ("'zoe'", fingerprint(key), "roster.toml"):
        assert fact in told.text


def test_with_a_roster_another_key_of_a_known_name_is_refused(sites: dict[str, SiteFolder]) -> None:
    pin_all(sites)
    told = refusal(sites["anna"], lines(sites) | {"bert": openssh(ec.generate_private_key(ec.SECP384R1()))})
    assert told.code == "not-on-roster"
    assert "'bert'" in told.text
    assert "has another key" in told.text, "not that it is unknown"
    swapped = lines(sites) | {"bert": line(sites["carl"]), "carl": line(sites["bert"])}
    assert refusal(sites["anna"], swapped).code == "not-on-roster"


def test_a_roster_is_read_at_each_message(sites: dict[str, SiteFolder]) -> None:
    pin_all(sites)
    replace_key(sites["carl"])
    assert refusal(sites["anna"], lines(sites)).code == "not-on-roster"
    pin_all(sites)
    identity(sites["anna"], lines(sites))


def test_one_site_does_not_count_as_two(sites: dict[str, SiteFolder]) -> None:
    anna = sites["anna"]
    for told in (lines(sites) | {"dora": line(sites["bert"])}, lines(sites) | {"dora": line(anna)}):
        assert refusal(anna, told).code == "same-key"
    assert refusal(anna, lines(sites), "bert").code == "other-key", (
        "the coordinator calls it by another's name"
    )
    without = {name: line for name, line in lines(sites).items() if name != "anna"}
    identity(anna, without)  # a list of others only
    assert refusal(anna, without | {"dora": line(anna)}).code == "same-key"


def test_keys_that_are_none(sites: dict[str, SiteFolder]) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    wrong = other.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    for given in ("", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384 AAAA", wrong, "ä" * 200):
        assert refusal(sites["anna"], lines(sites) | {"bert": given}).code == "no-key"


def test_a_long_name_makes_no_long_text(sites: dict[str, SiteFolder]) -> None:
    pin_all(sites)
    told = refusal(
        sites["anna"], lines(sites) | {"z" * 10_000: openssh(ec.generate_private_key(ec.SECP384R1()))}
    )
    assert len(told.text) < 500


def test_a_roster_that_cannot_be_read_shares_no_masks(sites: dict[str, SiteFolder]) -> None:
    pin_all(sites)
    (sites["anna"].folder / "roster.toml").unlink()
    with pytest.raises(UserError, match=r"roster\.toml: no such file"):
        identity(sites["anna"], lines(sites))


def openssh(key: ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def checked(site: SiteFolder) -> tuple[str, str]:
    """What ``client check`` says of the roster."""
    findings = check_site(SiteFolder.open(site.folder), images=False)
    [found] = [(finding.level, finding.text) for finding in findings if finding.subject == "roster"]
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pathspec.*")
def test_check_says_whose_word_is_taken(
    sites: dict[str, SiteFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedtransfer.client.deployment.preflight._backbone", lambda site: ("ok", ""))
    anna = sites["anna"]
    level, text = checked(anna)
    assert level == "ok"
    assert text.startswith(
        "no roster: in runs with masks this site trusts the coordinator to say which key belongs to whom"
    )
    settings = anna.folder / "site.toml"
    settings.write_text(settings.read_text().replace("demand = []", 'demand = ["masks"]'))
    assert checked(anna) == ("warning", text)
    pin_all(sites)
    assert checked(anna) == ("ok", "shares masks only with bert, carl")
    pin(anna, {name: fingerprint(line(sites[name])) for name in ("anna", "bert")})
    assert checked(anna) == ("warning", "shares masks only with bert; a masked sum needs 3 sites")
    pin(anna, {name: fingerprint(line(sites[name])) for name in ("bert", "carl")})
    level, text = checked(anna)
    assert level == "warning"
    assert fingerprint(line(anna)) in text
    (anna.folder / "roster.toml").write_text("[sites]\n")
    assert checked(anna)[0] == "error"


def test_fingerprints_to_be_compared_by_telephone(sites: dict[str, SiteFolder], tmp_path: Path) -> None:
    def shown(*words: str) -> str:
        result = CliRunner().invoke(client, ["roster", "--dir", str(sites["anna"].folder), *words])
        assert result.exception is None or isinstance(result.exception, UserError)
        return f"{result.output}{result.exception or ''}"

    keys = {name: fingerprint(line) for name, line in lines(sites).items()}
    assert shown().startswith(f"{keys['anna']}  ")
    assert "fedtransfer client roster --help" in shown()
    (tmp_path / "got.toml").write_text(roster_text(keys))
    told = f"{keys['anna']}  anna, this site\n{keys['bert']}  bert\n{keys['carl']}  carl\n"
    assert shown(str(tmp_path / "got.toml")) == told
    pin(sites["anna"], {name: key for name, key in keys.items() if name != "anna"})
    assert shown().endswith(f"key, {keys['anna']}, is not on it: the others would refuse it")


def test_check_leaves_it_to_a_run_to_say_which_pixels_a_network_expects(
    sites: dict[str, SiteFolder],
) -> None:
    settings = sites["anna"].folder / "site.toml"
    others = [line for line in settings.read_text().splitlines() if not line.startswith("backbone =")]
    for made, expected in ((network(last=True), "warning"), (network(), "ok")):
        file = Path(saved(made, sites["anna"].folder / f"{expected}.onnx"))
        settings.write_text("\n".join([f'backbone = "{file.name}#features"', *others]))
        level, text = preflight._backbone(SiteFolder.open(sites["anna"].folder))
        assert level == expected
        assert ("each run says which pixels" in text) == (expected == "warning")
