"""A site's key is renewed without a visit: signed by the old one, taken up after the run."""

import json
import os
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from deployed_sites import Deployment

from fedtransfer.client.deployment.keys import load_keys
from fedtransfer.client.deployment.renewal import begin_renewal, pending_renewal
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.keys import fingerprint, public_line
from fedtransfer.common.wire.renewal import renewal, renewed_line
from fedtransfer.server.deployment.audit_log import audit_log
from fedtransfer.server.deployment.enrolment import enrol, enrolled_sites, key_warnings
from fedtransfer.server.deployment.renewals import store_renewal, take_up_renewals

OLD, NEW, OTHER = (ec.generate_private_key(ec.SECP384R1()) for _ in range(3))
ENROLLED = public_line(OLD.public_key())


def test_a_renewal_names_the_next_key() -> None:
    text = renewal(OLD, NEW.public_key())
    assert renewed_line(text, ENROLLED) == public_line(NEW.public_key())
    assert len(text) < 1000
    assert text.isascii()
    assert text.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        renewal(OTHER, NEW.public_key()),
        renewal(NEW, NEW.public_key()),
        renewal(OLD, NEW.public_key()).replace(
            public_line(NEW.public_key()), public_line(OTHER.public_key())
        ),
        json.dumps({"key": public_line(NEW.public_key()), "signature": ""}),
        json.dumps({"key": "ssh-rsa AAAA", "signature": "00"}),
        json.dumps({"key": 7, "signature": 7}),
        json.dumps([]),
        "[" * 2000,
        "no JSON",
        "",
    ],
)
def test_what_the_enrolled_key_did_not_sign_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="renewal"):
        renewed_line(text, ENROLLED)


@pytest.fixture
def world(tmp_path: Path) -> Deployment:
    """Two sites, which are enrolled."""
    world = Deployment(tmp_path)
    for site in world.sites.values():
        enrol(world.coordinator, site.public_key)
    return world


def fingerprints(world: Deployment) -> dict[str, str]:
    return {site.name: site.fingerprint for site in enrolled_sites(world.coordinator)}


@pytest.mark.run
@pytest.mark.filterwarnings("ignore::DeprecationWarning:pathspec.*")
def test_a_renewal_travels_with_answers_and_is_taken_up_after_the_run(world: Deployment) -> None:
    before, anna = fingerprints(world), world.sites["anna"]
    line = begin_renewal(anna)
    with pytest.raises(UserError, match="a renewal has begun already"):
        begin_renewal(anna)
    world.run("first", rounds=1)
    assert fingerprints(world) == before, "not while a run is in progress"
    reports: list[str] = []
    take_up_renewals(world.coordinator, reports.append)
    assert fingerprints(world) == {**before, "anna": fingerprint(line)}
    assert reports == [f"anna has a new key: {fingerprint(line)}"]
    event = [*audit_log(world.coordinator).entries()][-1]
    facts = [event[key] for key in ("event", "site", "key", "old")]
    assert facts == ["key renewed", "anna", fingerprint(line), before["anna"]]
    with pytest.raises(UserError, match="this key was revoked"):
        enrol(world.coordinator, anna.public_key, "another")
    take_up_renewals(world.coordinator, reports.append)
    assert len(reports) == 1


@pytest.mark.run
@pytest.mark.filterwarnings("ignore::DeprecationWarning:pathspec.*")
def test_a_site_renews_no_key_but_its_own(world: Deployment) -> None:
    """Bert sends anna's renewal as his, and an outsider's as anna's: nothing changes."""
    before = fingerprints(world)
    begin_renewal(world.sites["anna"])
    foreign = pending_renewal(world.sites["anna"])
    world.sites["anna"].next_key.unlink()
    begin_renewal(world.sites["bert"])
    world.run("first", rounds=1)
    store_renewal(world.coordinator, "bert", foreign)
    store_renewal(world.coordinator, "anna", renewal(OTHER, NEW.public_key()))
    reports: list[str] = []
    take_up_renewals(world.coordinator, reports.append)
    assert fingerprints(world) == before
    assert len(reports) == 2
    assert all("refused: a renewal that is not signed with the enrolled key" in report for report in reports)


def test_a_renewal_by_a_key_that_is_enrolled_or_revoked_is_refused(world: Deployment) -> None:
    anna, bert = (load_keys(site.key) for site in world.sites.values())
    store_renewal(world.coordinator, "anna", renewal(anna[0], bert[1]))
    store_renewal(world.coordinator, "nobody", renewal(anna[0], bert[1]))
    reports: list[str] = []
    take_up_renewals(world.coordinator, reports.append)
    assert ["is refused" in report for report in reports] == [True, True]
    assert "its key is enrolled already" in reports[0]


@pytest.mark.parametrize(
    ("days", "words"), [(600, ""), (699, ""), (700, "ends in 30 days"), (731, "has ended")]
)
def test_the_end_of_a_keys_lifetime_is_warned_of(world: Deployment, days: int, words: str) -> None:
    path = world.coordinator.folder / "sites" / "anna.pub"
    then = time.time() - days * 86400 - 60
    os.utime(path, (then, then))
    warnings = key_warnings(world.coordinator)
    assert [words in warning and "anna" in warning for warning in warnings] == ([True] if words else [])
    assert not words or "fedtransfer client new-key --renew" in warnings[0]
