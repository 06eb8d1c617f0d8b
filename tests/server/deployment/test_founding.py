"""A coordinator's folder: made once, complete, and renewed in place."""

from pathlib import Path

import pytest

from fedtransfer.common.errors import UserError
from fedtransfer.server.deployment.certificates import read_certificate
from fedtransfer.server.deployment.coordinator import SETTINGS, Coordinator
from fedtransfer.server.deployment.founding import GATEWAY_UNIT, UNIT, found_coordinator, renew


def made(folder: Path) -> Coordinator:
    return found_coordinator(
        folder, ["fl.example.org"], port=9443, superlink_port=9092, health_port=9093, user="flower"
    )  # fmt: skip


def test_everything_that_a_coordinator_needs_is_there(tmp_path: Path) -> None:
    coordinator = made(tmp_path / "federation")
    assert Coordinator.open(tmp_path / "federation") == coordinator
    assert "listen 9443 ssl " in (coordinator.folder / "nginx.conf").read_text()
    assert f'server start --dir "{coordinator.folder}"' in (coordinator.folder / UNIT).read_text()
    assert "User=flower" in (coordinator.folder / UNIT).read_text()
    assert read_certificate(coordinator.certificates / "server.crt").hosts[0] == "fl.example.org"
    assert coordinator.state.stat().st_mode & 0o777 == 0o700


def test_the_authoritys_key_is_in_a_folder_that_the_service_does_not_see(tmp_path: Path) -> None:
    coordinator = made(tmp_path / "federation")
    key = tmp_path / "federation-authority" / "ca.key"
    assert coordinator.authority_key.resolve() == key
    assert [key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777] == [0o600, 0o700]
    assert not list(coordinator.folder.rglob("ca.key"))
    for unit in (UNIT, GATEWAY_UNIT):
        assert f'InaccessiblePaths="-{key.parent}"' in (coordinator.folder / unit).read_text()


def test_renewal_says_that_it_needs_the_authoritys_key(tmp_path: Path) -> None:
    coordinator = made(tmp_path / "federation")
    before = (coordinator.certificates / "server.crt").read_bytes()
    (tmp_path / "federation-authority").rename(tmp_path / "stick")
    with pytest.raises(UserError, match=r"ca.key: no such file; .* bring it back .* authority-key in coor"):
        renew(coordinator, [], authority=False)
    assert (coordinator.certificates / "server.crt").read_bytes() == before
    settings = coordinator.folder / SETTINGS
    settings.write_text(settings.read_text().replace("../federation-authority", str(tmp_path / "stick")))
    renew(Coordinator.open(coordinator.folder), [], authority=False)
    assert (coordinator.certificates / "server.crt").read_bytes() != before


def test_a_place_for_the_authoritys_key_can_be_made_by_hand(tmp_path: Path) -> None:
    """Where /srv is root's, the second try must not find the folder of the first one."""
    blocked = tmp_path / "federation-authority"
    blocked.write_text("not a folder")
    with pytest.raises(
        UserError, match=r"try again: sudo install -d -m 700 -o \$USER .*federation-authority"
    ):
        made(tmp_path / "federation")
    blocked.unlink()
    made(tmp_path / "federation")


def test_it_is_made_once(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(UserError, match=r"folder already; .*server renew"):
        made(tmp_path)


def test_renewal_keeps_what_there_was_and_adds_names(tmp_path: Path) -> None:
    coordinator = made(tmp_path)
    before = read_certificate(coordinator.certificates / "server.crt")
    renewed = renew(coordinator, ["192.0.2.7", "fl.example.org"], authority=True)
    assert renewed.settings.hosts == ("fl.example.org", "192.0.2.7")
    assert Coordinator.open(tmp_path) == renewed
    assert "server_name fl.example.org 192.0.2.7;" in (tmp_path / "nginx.conf").read_text()
    after = read_certificate(coordinator.certificates / "server.crt")
    assert after.sha256 != before.sha256
    assert "192.0.2.7" in after.hosts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hosts = [", "not valid TOML"),
        ("hosts = []", r"hosts: got \[\]; tuple should have at least 1 item"),
        ('hosts = ["a"]\nport = 0', "port: got 0; input should be greater than or equal to 1"),
        (
            'hosts = ["a"]\ncolour = 1',
            "unknown key 'colour'; expected one of: hosts, port, superlink-port, health-port, key-days, "
            "authority-key",
        ),
    ],
)
def test_settings_that_are_not_right_are_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(UserError, match=words):
        Coordinator.open(tmp_path)


def test_another_folder_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no coordinator.toml\); .* fedtransfer"):
        Coordinator.open(tmp_path)
