"""Refused: who is not enrolled, or no longer, or passes for the coordinator. Real processes."""

import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import SHUT_RDWR, create_server, socket

import httpx
import pytest
from deployment.federation import CoordinatorParty, SiteParty, free_port, stopping
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.proto.node_pb2 import Node
from pictures import class_folders
from waiting import wait_until

from fedtransfer.client.deployment.fleet import connect
from fedtransfer.client.deployment.preflight import check_site
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.server.deployment.certificates import issue_server_certificate, make_authority

pytestmark = [pytest.mark.full, pytest.mark.filterwarnings("ignore::DeprecationWarning:pathspec.*")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site's images."""
    return class_folders(tmp_path_factory.mktemp("sites") / "images", 0)


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorParty]:
    """A running coordinator."""
    party = CoordinatorParty(tmp_path_factory.mktemp("coordinator"))
    with stopping(party):
        party.start()
        yield party


def statuses(coordinator: CoordinatorParty) -> dict[str, str]:
    return {site["name"]: site["status"] for site in coordinator.status()["sites"]}


def refusal(site: SiteParty) -> tuple[str, str]:
    """Return the error that ``client check`` ends with, made here: TensorFlow is imported once."""
    *passed, last = check_site(SiteFolder.open(site.folder), images=False)
    assert "error" not in {finding.level for finding in passed}
    assert last.level == "error"
    return last.subject, last.text


def is_sound(site: SiteParty) -> bool:
    return all(finding.level != "error" for finding in check_site(SiteFolder.open(site.folder), images=False))


@contextmanager
def tls_server(certificates: Path) -> Iterator[tuple[str, list[bytes]]]:
    """Serve a certificate; yield the address, and what clients send once they trust it."""
    context, heard = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), []
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")

    def serve() -> None:
        while connection := accepted():
            connection.settimeout(5)
            with connection, suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
                heard.append(secured.recv(65536))

    def accepted() -> socket | None:
        with suppress(OSError):  # it was closed
            return listener.accept()[0]
        return None

    with create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"localhost:{listener.getsockname()[1]}", heard
        listener.shutdown(SHUT_RDWR)


def test_unknown_key(coordinator: CoordinatorParty, data: Path, tmp_path: Path) -> None:
    site = SiteParty(tmp_path / "stranger", "stranger", coordinator, data, enrol=False)
    checked = site.command("check", "--quick", check=False)
    assert checked.returncode == 3, "all is well at the site"
    *_, last = checked.stdout.splitlines()
    assert last.split(maxsplit=2)[:2] == ["ERROR", "enrolment"]
    assert "the coordinator does not know this site's key, or has revoked it; send its people" in last
    assert str(site.folder / "site.pub") in last
    assert "stranger" not in statuses(coordinator)
    coordinator.command("enroll", str(site.folder / "site.pub"))
    wait_until(lambda: is_sound(site), "the coordinator knows the key")


def test_no_site_acts_for_another(coordinator: CoordinatorParty, data: Path, tmp_path: Path) -> None:
    """Messages are for the key that they were meant for, whatever number is given."""
    numbers = {}
    sites = [
        SiteParty(tmp_path / name, name, coordinator, data, enrol=name != "eve")
        for name in ("one", "two", "eve")
    ]
    for site in sites[:2]:
        wait_until(lambda site=site: is_sound(site), "the coordinator knows the key")
        numbers[site.name] = int((site.folder / "state" / "node-id").read_text())
    for name, victim in (("one", "two"), ("eve", "two")):
        with connect(SiteFolder.open(tmp_path / name)) as fleet:
            with pytest.raises(httpx.HTTPStatusError) as caught:
                fleet._client.PullMessages(PullMessagesRequest(node=Node(node_id=numbers[victim])))
            assert caught.value.response.status_code in (401, 403)


def test_other_authority(coordinator: CoordinatorParty, data: Path, tmp_path: Path) -> None:
    make_authority(tmp_path / "other", "another federation")
    site = SiteParty(tmp_path / "site", "misled", coordinator, data, authority=tmp_path / "other" / "ca.crt")
    checked = site.command("check", "--quick", check=False)
    assert checked.returncode == 3
    *_, last = checked.stdout.splitlines()
    assert last.split(maxsplit=2)[:2] == ["ERROR", "certificate"]
    for words in (
        "is not signed by your ca.crt (",
        "you have another federation's ca.crt, or somebody intercepts the connection",
        "Compare its SHA-256 with the coordinator's people",
    ):
        assert words in last


def test_who_passes_for_the_coordinator_is_told_nothing(
    coordinator: CoordinatorParty, data: Path, tmp_path: Path
) -> None:
    make_authority(tmp_path / "other", "somebody in between")
    issue_server_certificate(tmp_path / "other", ["localhost"])
    with tls_server(tmp_path / "other") as (address, heard):
        site = SiteParty(tmp_path / "site", "careful", coordinator, data, address, enrol=False)
        with (
            connect(SiteFolder.open(site.folder)) as fleet,
            pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY"),
        ):
            fleet.is_enrolled()
        assert refusal(site)[0] == "certificate"
        assert not any(heard)


def test_host_that_the_certificate_is_not_for(
    coordinator: CoordinatorParty, data: Path, tmp_path: Path
) -> None:
    site = SiteParty(
        tmp_path / "site", "elsewhere", coordinator, data, f"127.1:{coordinator.port}", enrol=False
    )
    told = (
        "the coordinator's certificate is not for '127.1'; use the name that it is for, "
        "or have it renewed for this name too: fedtransfer server renew --host 127.1"
    )
    assert refusal(site) == ("certificate", told)  # 127.1 is another way to write 127.0.0.1


def test_expired_certificate(data: Path, tmp_path: Path) -> None:
    own = CoordinatorParty(tmp_path / "coordinator")
    certificates = own.folder / "certificates"
    past = datetime.now(UTC) - timedelta(days=3)
    issue_server_certificate(certificates, ["localhost"], 1, now=past, key_file=own.authority_key)
    started = own.command("start", check=False)
    assert started.returncode == 2
    assert (
        "the server's certificate has expired, so no site would connect; run: fedtransfer server renew"
        in started.stderr
    )
    with tls_server(certificates) as (address, heard):
        site = SiteParty(tmp_path / "site", "late", own, data, address, enrol=False)
        told = "the coordinator's certificate has expired; its people renew it with: fedtransfer server renew"
        assert refusal(site) == ("certificate", told)
        assert not any(heard)
    own.command("renew")
    site.settings(address, f"localhost:{own.port}")
    with stopping(own):
        own.start()
        assert refusal(site)[0] == "enrolment"  # that comes after the certificate


def test_plain_http(coordinator: CoordinatorParty, data: Path, tmp_path: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"localhost:{server.server_port}"
        site = SiteParty(tmp_path / "site", "open", coordinator, data, address, enrol=False)
        what, text = refusal(site)
        server.shutdown()
    assert what == "certificate"
    assert text.startswith(f"{address} does not speak TLS (")
    assert text.endswith("); is this the coordinator's port?")
    with pytest.raises(httpx.TransportError):
        httpx.post(f"http://localhost:{coordinator.port}/v1/fleet/pull-messages", content=b"")


def test_no_coordinator_at_all(coordinator: CoordinatorParty, data: Path, tmp_path: Path) -> None:
    port = free_port()
    site = SiteParty(tmp_path / "site", "alone", coordinator, data, f"localhost:{port}", enrol=False)
    what, text = refusal(site)
    assert what == "network"
    assert f"localhost:{port} cannot be reached (" in text
    assert "is the coordinator up, and may this machine connect to that port?" in text
    site.settings("localhost", "no-such-host.invalid")
    told = "there is no host named 'no-such-host.invalid'; check coordinator in site.toml"
    assert refusal(site) == ("network", told)


def test_revoked_key(coordinator: CoordinatorParty, data: Path, tmp_path: Path) -> None:
    site = SiteParty(tmp_path / "site", "leaver", coordinator, data)
    assert statuses(coordinator)["leaver"] != "unknown", "a command that enrols waits until it holds"
    with stopping(site):
        site.start(wait=False)
        wait_until(lambda: "waiting for runs" in site.log(), "the site is up", site.died)
        wait_until(lambda: statuses(coordinator)["leaver"] == "online", "it is connected", site.died)
        coordinator.command("revoke", "leaver")
        refused = f"the coordinator localhost:{coordinator.port} refuses this site: its key is not enrolled"
        wait_until(lambda: refused in site.log(), "the site says so", site.died)
        assert not site.is_up()
    assert not site.processes()
    assert "leaver" not in statuses(coordinator)
    again = coordinator.command("enroll", str(site.folder / "site.pub"), check=False)
    assert again.returncode == 2
    assert (
        "this key was revoked, and Flower never accepts a revoked key again; the site makes a new one with"
        in again.stderr
    )
    assert refusal(site)[0] == "enrolment"
    site.command("new-key")
    coordinator.command("enroll", str(site.folder / "site.pub"))
    wait_until(lambda: is_sound(site), "the coordinator knows the new key")
