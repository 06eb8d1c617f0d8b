"""Coordinator and sites on hosts of their own, with nothing but cables between them."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import forked
import pytest
from deployment.federation import ROOT, CoordinatorParty, Party, SiteParty, arrays, start_all, stopping
from deployment.network import NGINX, Cable, Network, network, nginx, why_no_namespaces
from pictures import class_folders
from waiting import wait_until

from fedtransfer.server.deployment.coordinator import Coordinator

pytestmark = pytest.mark.full

ROUNDS = 2
LARGE = 8_000_000  # bytes of a head with 8,000 hidden units; Flower sends them in pieces of 5 MiB
OPTIONS = ("--hidden-units", "8000", "--local-epochs", "3", "--learning-rate", "0.01")

# What a stranger would try at an address, with Flower's own client; prints how each was refused.
STRANGER = """\
import json, socket, sys
import httpx
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import ListRunsRequest, StartRunRequest
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.fab import Fab
from fedtransfer.common.wire.bundle import build_bundle

host, port, authority = sys.argv[1], sys.argv[2], sys.argv[3]
client = ControlHttpClient.from_server_address(f"{host}:{port}", False, open(authority, "rb").read(), [])
bundle, digest = build_bundle()
start = StartRunRequest(fab=fab_to_proto(Fab(digest, bundle, {})))
asked = {"list": (client.ListRuns, ListRunsRequest()), "start": (client.StartRun, start)}
told = {}
for name in sys.argv[4:]:
    ask, request = asked[name]
    try:
        told[name] = len(ask(request).run_dict)
    except httpx.HTTPStatusError as error:
        told[name] = [error.response.status_code, error.response.text]
    except httpx.TransportError as error:
        told[name] = str(error)
print(json.dumps(told))
"""


@dataclass
class Hosts:
    """A federation of hosts that has done a run with a large head."""

    network: Network
    coordinator: CoordinatorParty
    sites: dict[str, SiteParty]
    cables: dict[str, Cable]
    front: Path  # nginx's folder

    @property
    def port(self) -> int:
        return Coordinator.open(self.coordinator.folder).settings.port

    def stranger(self, party: Party, host: str, port: int, *asked: str) -> dict[str, object]:
        """Ask for these, where a party is; return what came of each."""
        words = [host, str(port), str(self.coordinator.authority), *asked]
        done = subprocess.run(
            [*party.inside, forked.python(), "-c", STRANGER, *words],
            capture_output=True, text=True, timeout=120, cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    if why := why_no_namespaces():
        pytest.skip(why)
    if not NGINX:
        pytest.skip("there is no nginx")
    folder = tmp_path_factory.mktemp("hosts")
    with network() as made:
        coordinator = CoordinatorParty(folder / "coordinator", made.inside("coordinator"), made.coordinator)
        port = Coordinator.open(coordinator.folder).settings.port
        cables, sites = {}, {}
        for seed, name in enumerate(("heart", "lung")):
            cables[name] = made.join(name)
            data, where = class_folders(folder / f"images of {name}", seed), f"{made.coordinator}:{port}"
            sites[name] = SiteParty(folder / name, name, coordinator, data, where, made.inside(name))
        front = folder / "nginx"
        generated = (coordinator.folder / "nginx.conf").read_text("utf-8")
        with nginx(front, generated, made.inside("coordinator")), stopping(*sites.values(), coordinator):
            start_all(coordinator, *sites.values())
            coordinator.run("--rounds", str(ROUNDS), *OPTIONS)
            yield Hosts(made, coordinator, sites, cables, front)


def test_a_run_with_a_large_head_finishes_at_both_ends(hosts: Hosts) -> None:
    rounds = hosts.coordinator.rounds()
    assert [(each["round"], each["present"], each["refused"]) for each in rounds] == [
        (number, ["heart", "lung"], {}) for number in range(1, ROUNDS + 1)
    ]
    assert all(each["bytes_up"] > LARGE and each["bytes_down"] > LARGE for each in rounds)
    print(
        f"\n{rounds[0]['bytes_up']:,} bytes up, rounds of",
        [round(each["seconds"], 1) for each in rounds],
        "s",
    )
    result = arrays(hosts.coordinator.folder / "runs" / "run" / "head.npz")
    for site in hosts.sites.values():
        (kept,) = (site.folder / "results").glob("*/head.npz")
        assert all((ours == theirs).all() for ours, theirs in zip(result, arrays(kept), strict=True))
    assert "[error]" not in (hosts.front / "error.log").read_text()


def test_the_check_passes_at_a_site(hosts: Hosts) -> None:
    done = hosts.sites["heart"].command("check", "--json")
    found = {finding["what"]: finding for finding in map(json.loads, done.stdout.splitlines())}
    for what in ("network", "certificate", "clock", "enrolment"):
        assert found[what]["level"] == "ok", found[what]
    assert hosts.network.coordinator in found["certificate"]["text"]
    assert "equal to the coordinator's" in found["clock"]["text"]


def test_nobody_outside_can_start_or_list_runs(hosts: Hosts) -> None:
    coordinator, outside, address = hosts.coordinator, hosts.sites["lung"], hosts.network.coordinator
    # On the coordinator's machine the question is heard, but it takes the token of its user.
    unknown = hosts.stranger(coordinator, "127.0.0.1", coordinator.port, "list", "start")
    assert [answer[0] for answer in unknown.values()] == [401, 401]  # type: ignore[index]
    assert all("lacks the coordinator's token" in answer[1] for answer in unknown.values())  # type: ignore[index]
    before = coordinator.status()
    refused = [401, "Only enrolled sites of the federation are served here.\n"]
    told = hosts.stranger(outside, address, hosts.port, "list", "start")
    assert told == {"list": refused, "start": refused}
    # Past nginx, to SuperLink itself.
    told = hosts.stranger(outside, address, coordinator.port, "list", "start")
    assert told == dict.fromkeys(("list", "start"), "[Errno 111] Connection refused")
    after = coordinator.status()
    assert {**after, "sites": 0} == {**before, "sites": 0}
    assert [site["name"] for site in after["sites"]] == ["heart", "lung"]


def test_a_host_sends_nothing_but_tcp_to_the_coordinators_port(hosts: Hosts) -> None:
    cable = hosts.cables["heart"]
    wait_until(
        lambda: cable.counted() == sum(cable.size.values()), "what was captured is what the kernel counted"
    )
    assert cable.missed() == 0
    to_coordinator = f"TCP, {cable.address} to {hosts.network.coordinator}:{hosts.port}"
    print(
        "\n"
        + "\n".join(
            f"{kind}: {number} packets, {cable.size[kind]:,} bytes" for kind, number in cable.packets.items()
        )
    )
    assert cable.size[to_coordinator] > ROUNDS * LARGE
    assert set(cable.packets) <= {to_coordinator, "ARP", "IPv6 neighbours"}
