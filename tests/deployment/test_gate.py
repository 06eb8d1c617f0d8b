"""The gate before SuperLink: one enrolled attacker, one without a key, one on the same machine.

The honest sites' head stays, bit for bit, that of a run without the attacker.
"""

import re
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import forked
import httpx
import pytest
import tomli_w
from deployment.federation import CoordinatorParty, SiteParty, arrays, start_all, stopping
from deployment.hostile_site import HostileSite, hostile
from deployment.parcel import Parcel, part
from flwr.app import Message, RecordDict
from flwr.app.message import make_message
from flwr.app.metadata import Metadata
from flwr.cli.build import build_fab_from_files
from flwr.proto.control_pb2 import ListRunsRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.runtime import RuntimeHttpClient
from pictures import class_folders
from waiting import wait_until

from fedtransfer.common.errors import UserError
from fedtransfer.server.deployment.coordinator import Coordinator
from fedtransfer.server.deployment.superlink import connect

pytestmark = [pytest.mark.full, pytest.mark.filterwarnings("ignore::DeprecationWarning:pathspec.*")]

MEGABYTE = 10**6
GATE = b"\0fedtransfer.server.deployment.gate\0"
LOCK_SECONDS = 7.0  # Flower waits 5


class World:
    """A running coordinator, two honest sites, and an attacker's site that is enrolled."""

    def __init__(self, root: Path) -> None:
        self.coordinator = CoordinatorParty(root / "coordinator")
        images = {
            name: class_folders(root / "images" / name, i) for i, name in enumerate(("anna", "bert", "eve"))
        }
        self.honest = [
            SiteParty(root / name, name, self.coordinator, images[name]) for name in ("anna", "bert")
        ]
        start_all(self.coordinator, *self.honest)
        self.attacker = SiteParty(root / "eve", "eve", self.coordinator, images["eve"])

    def head(self, folder: Path) -> list[bytes]:
        return [array.tobytes() for array in arrays(folder / "head.npz")]

    def refusals(self) -> set[tuple[str, str]]:
        return {(entry["site"], entry["why"]) for entry in self.coordinator.status()["refusals"]}

    def memory(self) -> int:
        """Bytes in memory of SuperLink's process."""
        commands = {pid: Path(f"/proc/{pid}/cmdline") for pid in self.coordinator.processes()}
        [pid] = [pid for pid, path in commands.items() if path.exists() and GATE in path.read_bytes()]
        text = Path(f"/proc/{forked.forked_for(pid) or pid}/status").read_text()
        return 1024 * int(re.findall(r"VmRSS:\s+(\d+) kB", text)[0])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("gate")
    made = World(root)
    with stopping(*made.honest, made.coordinator):
        yield made


def refusal(request: Any, *arguments: Any) -> int:
    """Return the status with which a request is refused."""
    with pytest.raises(httpx.HTTPStatusError) as caught:
        request(*arguments)
    return caught.value.response.status_code


def instruction(run_id: int, source: int, target: int) -> Parcel:
    """A message that answers none: what only a coordinator sends."""
    metadata = Metadata(
        run_id=run_id, message_id="", src_node_id=source, dst_node_id=target, reply_to_message_id="",
        group_id="", created_at=time.time(), ttl=3600.0, message_type="train",
    )  # fmt: skip
    return Parcel.of(make_message(metadata=metadata, content=RecordDict()))


class Attacks:
    """What the attacker does at each message for training; it answers the rest honestly."""

    def __init__(self, attacker: HostileSite, victims: list[int]) -> None:
        self.attacker, self.victims = attacker, victims
        self.statuses: list[int] = []
        self.errors: list[BaseException] = []
        self.processes = ""
        self._attacks = iter((self.forge, self.bury, self.flood))

    def __call__(self, message: Message) -> bool:
        if message.metadata.message_type != "train":
            return False
        attack = next(self._attacks, None)
        if attack is None:
            return False
        try:
            attack(message)
        except BaseException as error:
            self.errors.append(error)
        return True

    def forge(self, message: Message) -> None:
        """Speak as the coordinator, send an object unannounced, and answer in another's name."""
        self.processes = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True).stdout
        run_id, push = message.metadata.run_id, self.attacker.push
        for source, target in ((1, 1), (1, self.victims[0]), (self.attacker.node.node_id, self.victims[0])):
            self.statuses.append(refusal(push, instruction(run_id, source, target)))
        unannounced = part("ConfigRecord", [], b"")
        self.statuses.append(refusal(self.attacker.push_object, run_id, *unannounced, "no session"))
        forged = Parcel.of(self.attacker.honest(message))
        forged.envelope.metadata.src_node_id = self.victims[0]
        self.statuses.append(refusal(push, forged))

    def bury(self, message: Message) -> None:
        """Announce hundreds of thousands of objects, then thousands."""
        for number in (300_000, 3_000):
            parcel = Parcel.of(self.attacker.honest(message))
            parcel.tree.children.extend(ObjectTree(object_id=f"{i:064x}") for i in range(number))
            self.statuses.append(refusal(self.attacker.push, parcel))

    def flood(self, message: Message) -> None:
        """Send an answer of many megabytes, piece by piece."""
        parcel = Parcel.of(self.attacker.honest(message))
        pieces = dict(part("ConfigRecord", [], bytes([i]) * 2 * MEGABYTE) for i in range(7))
        root, content = part("Message", list(pieces), b"")
        tree = ObjectTree(object_id=root, children=[ObjectTree(object_id=name) for name in pieces])
        self.statuses.append(refusal(self.attacker.push, parcel.replace({root: content, **pieces}, tree)))


def test_an_enrolled_attacker_changes_nothing(world: World) -> None:
    """Forged, buried and flooded answers: each is refused, named, and costs its round no time."""
    reference = world.head(world.coordinator.run("--rounds", "3", "--sites", "2", name="reference"))
    with connect(Coordinator.open(world.coordinator.folder)) as link:
        victims = [node.node_id for node in link.nodes() if node.name == "anna"]
    with hostile(world.attacker) as attacker:
        attacks = Attacks(attacker, victims)
        attacker.answer_all(attacks)
        folder = world.coordinator.run("--rounds", "3", "--min-sites", "2", name="attacked")
    assert not attacks.errors
    assert attacks.statuses == [403] * 8
    assert world.head(folder) == reference
    rounds = world.coordinator.rounds("attacked")
    assert [set(event["refused"]) for event in rounds[:3]] == [{"eve"}] * 3
    assert max(event["seconds"] for event in rounds) < 60
    why = [event["refused"]["eve"] for event in rounds[:3]]
    assert why[0] == "was refused by the coordinator (sent a message in the name of another)"
    assert why[1].startswith("was refused by the coordinator (sent an answer of more than 9 objects")
    # The ServerApp may have fetched the envelope before the answer was dropped.
    assert why[2].startswith(
        ("was refused by the coordinator (sent an answer of more", "sent a reply that is no")
    )
    assert {("eve", text) for text in (
        "sent a message that answers none, as only the coordinator may",
        "sent a message in the name of another", "sent an object that it had not announced",
        "sent a request of more than 262144 bytes", "sent an answer of more than 4200640 bytes",
    )} <= world.refusals()  # fmt: skip
    status = world.coordinator.command("status").stdout
    assert "refused: eve: sent a message in the name of another (" in status
    # No process list has a token: neither the coordinator's nor a task's.
    lines = [line for line in attacks.processes.splitlines() if str(world.coordinator.folder) in line]
    assert any("flwr-serverapp" in line and "--token-file /dev/fd/" in line for line in lines)
    assert not any("--token " in line for line in lines)
    assert Coordinator.open(world.coordinator.folder).token not in attacks.processes


def test_the_first_answer_stands_through_a_lock_and_the_database_is_small_again(world: World) -> None:
    """The database is locked, as by a backup, for longer than SuperLink waits without the gate."""
    statuses: list[int] = []
    database = world.coordinator.folder / "state" / "superlink.db"

    def act(message: Message) -> bool:
        if message.metadata.message_type != "train":
            return False
        first = Parcel.of(attacker.honest(message))
        if not statuses:
            with closing(sqlite3.connect(database)) as backup:
                backup.execute("BEGIN IMMEDIATE")
                threading.Event().wait(LOCK_SECONDS)
        attacker.announce(first)
        second = Parcel.of(Message(RecordDict(), reply_to=message))
        statuses.append(refusal(attacker.push, second))
        attacker.push(first)  # a retry, which is no second answer
        foreign = ConfirmMessageReceivedRequest(
            node=attacker.node, run_id=message.metadata.run_id, message_object_id=first.tree.object_id
        )
        attacker.fleet.ConfirmMessageReceived(foreign)  # would delete the answer
        return True

    with hostile(world.attacker) as attacker:
        attacker.answer_all(act)
        world.coordinator.run("--rounds", "2", "--min-sites", "3", name="twice")
    assert statuses == [403] * len(statuses)
    assert len(statuses) >= 2
    assert ("eve", "answered a message a second time") in world.refusals()
    assert all(not event["refused"] for event in world.coordinator.rounds("twice"))
    assert "interrupted" not in world.coordinator.log()
    wait_until(lambda: database.stat().st_size < MEGABYTE, "the database is small again", seconds=60)


def test_bodies_of_outsiders_are_not_read(world: World) -> None:
    """16 connections with 60 MB each, without a key: refused at the first byte, and not stored."""
    before, outcomes = world.memory(), ["nothing"] * 16

    def push(number: int) -> None:
        try:
            answer = httpx.post(
                f"https://localhost:{world.coordinator.port}/v1/fleet/push-object",
                content=(bytes(MEGABYTE) for _ in range(60)), headers={"content-length": str(60 * MEGABYTE)},
                verify=str(world.coordinator.authority), timeout=60,
            )  # fmt: skip
            outcomes[number] = str(answer.status_code)
        except httpx.TransportError:
            outcomes[number] = "cut"

    threads = [threading.Thread(target=push, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    most = before
    while any(thread.is_alive() for thread in threads):
        most = max(most, world.memory())
        threads[0].join(0.05)
    for thread in threads:
        thread.join()
    assert set(outcomes) <= {"401", "cut"}
    assert most - before < 50 * MEGABYTE


def test_other_users_of_the_machine(world: World) -> None:
    """Neither a run nor a task without the token; with it, no code but the installed."""
    coordinator = Coordinator.open(world.coordinator.folder)
    authority = world.coordinator.authority.read_bytes()
    with ControlHttpClient.from_server_address(coordinator.superlink_address, False, authority, []) as client:
        assert refusal(client.ListRuns, ListRunsRequest()) == 401
    with RuntimeHttpClient.from_server_address(
        server_address=coordinator.superlink_address,
        insecure=False,
        root_certificates=authority,
        interceptors=[],
    ) as runtime:
        assert (
            refusal(runtime.AcquireTask, AcquireTaskRequest(supported_task_types=["flwr-serverapp"])) == 401
        )
    app = {"publisher": "x", "components": {"serverapp": "evil:app", "clientapp": "evil:app"}}
    project = {"name": "evil", "version": "1.0.0", "license": "Apache-2.0"}
    files = {"pyproject.toml": tomli_w.dumps({"project": project, "tool": {"flwr": {"app": app}}}).encode()}
    evil, _ = build_fab_from_files(
        {**files, "evil.py": b"from flwr.serverapp import ServerApp\napp = ServerApp()\n"}
    )
    with (
        pytest.raises(UserError, match="another bundle than that of the installed"),
        connect(coordinator) as link,
    ):
        link.start(evil, {})
    for name in ("control.token", "superexec.secret"):
        assert (coordinator.state / name).stat().st_mode & 0o077 == 0
    other = httpx.get(
        f"https://localhost:{world.coordinator.port}/docs", verify=str(world.coordinator.authority)
    )
    assert other.status_code == 404
