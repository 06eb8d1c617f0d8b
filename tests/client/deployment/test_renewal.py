"""The site's part of the renewal of its key."""

import ssl
from pathlib import Path

import pytest

from fedtransfer.client.deployment import fleet
from fedtransfer.client.deployment.founding import found_site
from fedtransfer.client.deployment.keys import load_keys
from fedtransfer.client.deployment.renewal import begin_renewal, end_renewal, pending_renewal
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.keys import public_line
from fedtransfer.common.wire.renewal import renewed_line


@pytest.fixture
def site(tmp_path: Path) -> SiteFolder:
    """A site whose renewal has begun."""
    (tmp_path / "images").mkdir()
    site = found_site(tmp_path / "site", "anna", "localhost:1", None, tmp_path / "images")
    begin_renewal(site)
    return site


class Coordinator:
    """One that has enrolled the owner of one key."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, enrolled: bool) -> None:
        self.certificates: list[Path] = []
        monkeypatch.setattr(fleet, "site_context", self._context)
        monkeypatch.setattr(fleet.Fleet, "is_enrolled", lambda _: enrolled)

    def _context(self, authority: Path, key: Path) -> ssl.SSLContext:
        self.certificates.append(key)
        return ssl.create_default_context()


def test_a_renewal_that_is_taken_up_replaces_the_key(
    site: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    following = public_line(load_keys(site.next_key)[1])
    before = public_line(load_keys(site.key)[1])
    assert renewed_line(pending_renewal(site), before) == following
    coordinator = Coordinator(monkeypatch, enrolled=True)
    assert end_renewal(site)
    assert coordinator.certificates == [site.next_key], "nginx knows the next key only"
    assert public_line(load_keys(site.key)[1]) == following
    assert site.public_key.read_text() == f"{following} anna\n"
    assert not site.next_key.exists()
    assert not site.next_public_key.exists()
    assert len([*site.folder.glob("site.key.until-*")]) == 1
    assert pending_renewal(site) == ""
    assert not end_renewal(site)


def test_a_renewal_goes_on_until_it_is_taken_up(site: SiteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    before = site.key.read_bytes()
    Coordinator(monkeypatch, enrolled=False)
    assert not end_renewal(site)
    assert site.key.read_bytes() == before
    assert pending_renewal(site)


def test_a_coordinator_that_cannot_be_reached_ends_nothing(site: SiteFolder) -> None:
    (site.folder / "ca.crt").write_text("no certificate")
    assert not end_renewal(site)
    assert site.next_key.exists()


def test_half_a_key_after_a_power_cut_stops_no_answer(site: SiteFolder) -> None:
    site.next_key.write_bytes(site.next_key.read_bytes()[:100])
    assert pending_renewal(site) == ""
    assert not end_renewal(site)


def test_half_a_next_key_is_replaced(site: SiteFolder) -> None:
    with pytest.raises(UserError, match="a renewal has begun already"):
        begin_renewal(site)
    site.next_key.write_bytes(site.next_key.read_bytes()[:50])
    begin_renewal(site)
    assert pending_renewal(site)


def test_a_public_key_that_is_missing_ends_no_renewal(
    site: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    Coordinator(monkeypatch, enrolled=True)
    site.public_key.unlink()
    assert end_renewal(site)
    assert site.public_key.exists()
