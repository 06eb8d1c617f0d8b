"""Nothing but named messages leaves a site: every byte of its traffic is accounted for by kind."""

import binascii
import datetime
import re
import shutil
import socket
import threading
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployment.federation import CoordinatorParty, SiteParty, stopping
from deployment.network import Relay
from flwr.app import Message
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.proto import fab_pb2, fleet_pb2, heartbeat_pb2, message_pb2, run_pb2
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.inflatable.inflatable_object import get_object_id, iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, public_key_to_bytes, verify_signature
from pictures import COLOURS, class_folders
from waiting import wait_until

from fedtransfer.client.consent.exchange_log import ExchangeLog
from fedtransfer.client.deployment.keys import load_keys
from fedtransfer.common.errors import SiteError
from fedtransfer.common.support.chain import line_hash
from fedtransfer.common.support.files import read_lines
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.bundle import SOURCES_HEADER
from fedtransfer.server.deployment.certificates import issue_server_certificate

pytestmark = pytest.mark.full

PATIENT = "Müller-Anna-1957-03-12"
FEATURES = 256  # of the bundled backbone
ROUNDS = 3
# One round and every other kind of message: sums, trials, SCAFFOLD's variates, a personal head.
ALL_KINDS = (
    "--rounds", "1", "--standardise", "federated", "--init", "fed3r", "--strategy", "scaffold",
    "--personal-epochs", "1",
)  # fmt: skip

# All kinds of requests of a site: what each is in Flower's protobuf, and its possible fields.
KINDS: dict[str, tuple[type[Any], set[str]]] = {
    "activate-node": (fleet_pb2.ActivateNodeRequest, {"public_key", "heartbeat_interval"}),
    "send-node-heartbeat": (heartbeat_pb2.SendNodeHeartbeatRequest, {"node", "heartbeat_interval"}),
    "pull-messages": (fleet_pb2.PullMessagesRequest, {"node"}),
    "get-run": (run_pb2.GetRunRequest, {"node", "run_id"}),
    "get-fab": (fab_pb2.GetFabRequest, {"node", "run_id", "hash_str"}),
    "pull-object": (message_pb2.PullObjectRequest, {"node", "run_id", "object_id"}),
    "confirm-message-received": (
        message_pb2.ConfirmMessageReceivedRequest,
        {"node", "run_id", "message_object_id"},
    ),
    "push-messages": (
        fleet_pb2.PushMessagesRequest,
        {"node", "messages_list", "message_object_trees", "clientapp_runtime_list"},
    ),
    "push-object": (
        message_pb2.PushObjectRequest,
        {"node", "run_id", "object_id", "object_content", "session_id"},
    ),
    "deactivate-node": (fleet_pb2.DeactivateNodeRequest, {"node_id"}),
}
CLOCK = "the time (GET /)"
HEADERS = {"host", "accept", "accept-encoding", "connection", "user-agent"}
SIGNED = HEADERS | {
    "content-type", "content-length", TIMESTAMP_HEADER, FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
}  # fmt: skip
OF_SUPERNODE = SIGNED | {
    "flwr-package-name", "flwr-package-version", "flwr-component-name", SOURCES_HEADER,
}  # fmt: skip
METADATA = {
    "run_id", "message_id", "src_node_id", "dst_node_id", "reply_to_message_id", "ttl", "message_type",
    "created_at", "dst_task_id", "group_id",
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A request or an answer of HTTP."""

    start: str
    headers: dict[str, str]
    head: int  # bytes
    body: bytes

    @property
    def kind(self) -> str:
        method, path, _ = self.start.split(" ")
        return CLOCK if (method, path) == ("GET", "/") else path.removeprefix("/v1/fleet/")


def parts(raw: bytes) -> Iterator[Part]:
    """Take what one side of a connection sent apart, to the last byte."""
    while raw:
        head, _, rest = raw.partition(b"\r\n\r\n")
        start, *lines = head.decode("ascii").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        assert "transfer-encoding" not in headers
        length = int(headers.get("content-length", 0))
        assert len(rest) >= length
        yield Part(start, headers, len(head) + 4, rest[:length])
        raw = rest[length:]


@dataclass
class Watch:
    """What the processes of a site have open on the network, looked at twice a second."""

    site: SiteParty
    port: int  # where the coordinator is

    def __enter__(self) -> "Watch":
        self.listening: set[tuple[str, int]] = set()
        self.peers: set[tuple[str, int, int]] = set()  # address, own port, its port
        self.others: set[str] = set()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(0.5):
            for pid in self.site.processes():
                with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                    self._look(Path(f"/proc/{pid}"))

    def _look(self, process: Path) -> None:
        links = [link.readlink().name for link in (process / "fd").iterdir() if link.is_symlink()]
        open_here = {name[8:-1] for name in links if name.startswith("socket:[")}
        for name in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet"):
            table = process / "net" / name
            for row in table.read_text().splitlines()[1:] if table.exists() else ():
                words = row.split()
                if words[8 if name == "packet" else 9] not in open_here:
                    continue
                if not name.startswith("tcp"):
                    self.others.add(f"{name}: {row}")
                elif words[3] == "0A":
                    self.listening.add(_end(words[1]))
                else:
                    self.peers.add((_end(words[2])[0], _end(words[1])[1], _end(words[2])[1]))

    def strangers(self) -> list[tuple[str, int, int]]:
        """Return connections that lead neither to the coordinator nor between its processes."""
        own = {port for _, port in self.listening} | {self.port}
        return [peer for peer in self.peers if peer[0] not in ("127.0.0.1", "::1") or not own & set(peer[1:])]


def _end(word: str) -> tuple[str, int]:
    """Read an address and a port as /proc/net has them."""
    address, _, port = word.partition(":")
    raw = b"".join(binascii.unhexlify(address[i : i + 8])[::-1] for i in range(0, len(address), 8))
    text = socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)
    return text.removeprefix("::ffff:"), int(port, 16)


@dataclass
class Captured:
    """A site's whole life at a coordinator: what it sent, and what it says that it sent."""

    relay: Relay
    wire: Relay
    watch: Watch
    site: SiteParty
    coordinator: CoordinatorParty
    pictures: Path

    def __post_init__(self) -> None:
        lives = [(parts(bytes(c.sent)), parts(bytes(c.answered))) for c in self.relay.connections]
        pairs = [pair for requests, answers in lives for pair in zip_longest(requests, answers)]
        self.requests = [request for request, _ in pairs]
        # A request that is under way when the site stops has none.
        self.answers = {id(request): answer for request, answer in pairs if answer}

    def of(self, kind: str) -> list[Any]:
        """Return the requests of one kind, read."""
        return [KINDS[kind][0].FromString(request.body) for request in self.requests if request.kind == kind]

    def replies(self) -> list[Message]:
        """Put the site's answers together from the objects that it pushed."""
        objects = {pushed.object_id: pushed.object_content for pushed in self.of("push-object")}
        messages = [
            inflate_object_from_contents(reply, objects, keep_object_contents=True) for reply in self.trees()
        ]
        assert all(isinstance(message, Message) for message in messages)
        return sorted(messages, key=lambda message: message.metadata.created_at)  # type: ignore[attr-defined]

    def trees(self) -> dict[str, set[str]]:
        """Return the answers' numbers → their objects."""
        trees = [tree for pushed in self.of("push-messages") for tree in pushed.message_object_trees]
        return {tree.object_id: {part.object_id for part in iterate_object_tree(tree)} for tree in trees}


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Captured]:
    """Have a site take part in two runs, refuse another, and leave, all through a relay."""
    folder = tmp_path_factory.mktemp("traffic")
    pictures = class_folders(folder / "Station 7", 0, name=f"{PATIENT}-")
    (pictures / "red" / f"{PATIENT}-broken.png").write_bytes(b"no picture at all")
    coordinator = CoordinatorParty(folder / "coordinator")
    between = folder / "between"
    shutil.copytree(coordinator.folder / "certificates", between)
    issue_server_certificate(between, ["localhost"], key_file=coordinator.authority_key)
    with Relay(coordinator.port, certificates=between) as relay, Relay(relay.port) as wire:
        site = SiteParty(folder / "site", "heart", coordinator, pictures, f"localhost:{wire.port}")
        with stopping(site, coordinator), Watch(site, wire.port) as watch:
            coordinator.start()
            site.start()
            coordinator.run("--rounds", str(ROUNDS))
            coordinator.run(*ALL_KINDS, name="all")
            refused = coordinator.command(
                "run", "--name", "refused", "--classes", "declared", "--class-names", "red,green", check=False
            )
            assert refused.returncode == 1
            assert "unknown-class" in refused.stdout + refused.stderr
            site.stop()
            wait_until(lambda: not relay.open and not wire.open, "all that was under way has passed")
        yield Captured(relay, wire, watch, site, coordinator, pictures)


def test_every_byte_is_in_a_request_of_a_known_kind(captured: Captured) -> None:
    assert {request.kind for request in captured.requests} == {*KINDS, CLOCK}
    accounted = sum(request.head + len(request.body) for request in captured.requests)
    assert accounted == sum(len(connection.sent) for connection in captured.relay.connections)
    print(f"\n{table(captured)}")


def test_requests_say_nothing_but_their_fields(captured: Captured) -> None:
    nodes = set()
    for request in captured.requests:
        if request.kind == CLOCK:
            assert (request.body, set(request.headers)) == (b"", HEADERS)
            continue
        assert request.start == f"POST /v1/fleet/{request.kind} HTTP/1.1"
        kind, fields = KINDS[request.kind]
        said = kind.FromString(request.body)
        assert said.SerializeToString(deterministic=True) == request.body  # no unknown field hides anything
        assert {field.name for field, _ in said.ListFields()} <= fields
        if "node" in fields:
            assert {field.name for field, _ in said.node.ListFields()} == {"node_id"}
            nodes.add(said.node.node_id)
    assert len(nodes) == 1


def test_headers_are_those_of_flower_and_its_signature(captured: Captured) -> None:
    _, public = load_keys(captured.site.folder / "site.key")
    plain: dict[str, set[str]] = {}
    for request in captured.requests:
        if request.kind == CLOCK:
            continue
        names = OF_SUPERNODE if "flwr-component-name" in request.headers else SIGNED
        assert set(request.headers) == names
        stamp = request.headers[TIMESTAMP_HEADER]
        datetime.datetime.fromisoformat(stamp)
        signature = b64decode(request.headers[FLEET_HTTP_SIGNATURE_HEADER])
        assert verify_signature(public, stamp.encode(), signature)
        assert b64decode(request.headers[FLEET_HTTP_PUBLIC_KEY_HEADER]) == public_key_to_bytes(public)
        for name in names - {TIMESTAMP_HEADER, FLEET_HTTP_SIGNATURE_HEADER, "content-length"}:
            plain.setdefault(name, set()).add(request.headers[name])
    # Each says one thing only.
    assert {name: len(values) for name, values in plain.items()} == dict.fromkeys(plain, 1)
    assert bytes_to_public_key(b64decode(*plain[FLEET_HTTP_PUBLIC_KEY_HEADER])) == public


def test_every_object_belongs_to_an_answer(captured: Captured) -> None:
    pushed = captured.of("push-object")
    assert all(get_object_id(one.object_content) == one.object_id for one in pushed)
    assert {one.object_id for one in pushed} == set().union(*captured.trees().values())
    numbers = {one.object_id for one in captured.of("pull-object")}
    numbers |= {one.message_object_id for one in captured.of("confirm-message-received")}
    assert all(re.fullmatch("[0-9a-f]{64}", number) for number in numbers)
    for push in captured.of("push-messages"):
        (envelope,) = push.messages_list
        assert {field.name for field, _ in envelope.ListFields()} == {"metadata", "content"}
        assert envelope.content.ByteSize() == 0
        assert {field.name for field, _ in envelope.metadata.ListFields()} <= METADATA
        assert len(push.message_object_trees) == len(push.clientapp_runtime_list) == 1


def test_answers_are_those_of_the_protocol(captured: Captured) -> None:
    """No other record, no other key, no array besides the named ones."""
    counts, head = ("<i4", (3, 3)), [("<f4", (FEATURES, 3)), ("<f4", (3,))]
    triangle = (FEATURES + 1) * (FEATURES + 2) // 2
    ridges, factors = 8, 10
    expected = {
        "Preparing": [[]],
        "Description": [[]],
        "Update": [[counts, counts, *head], [counts, counts, *head, *head]],  # the second is SCAFFOLD's
        "Scores": [[counts, counts]],
        "Confusion": [[counts, counts, ("<i8", (3, 3))]],
        "Sums": [[("<f8", (2, FEATURES))], [("<f8", (triangle,)), ("<f8", (FEATURES + 1, 3))]],
        "Tally": [[("<f8", (ridges, factors))]],
        "Personal": [[("<i8", (4,))]],
        "SiteError": [[]],
    }
    told: Counter[str] = Counter()
    for reply in captured.replies():
        records = reply.content
        assert set(records) == {"head"}
        assert set(records.config_records["head"]) == {"kind", "version", "said", "arrays", "log"}
        kind = str(records.config_records["head"]["kind"])
        told[kind] += 1
        assert [(dtype, tuple(shape)) for dtype, *shape in wire.shapes(records)] in expected[kind]
        if kind == "SiteError":
            with pytest.raises(SiteError) as refusal:
                wire.unpack(records)
            assert refusal.value.code == "unknown-class"
            assert not re.search("red|green|blue", str(refusal.value))
            continue
        value = wire.unpack(records, getattr(protocol, kind))
        if kind == "Description":
            assert (value.unreadable, value.partition) == (1, "")
            assert {name: sum(numbers) for name, numbers in value.images.items()} == dict.fromkeys(
                COLOURS, 12
            )
        if kind == "Update":
            assert all(np.isfinite(array).all() for array in value.total)
    told.pop("Preparing", 0)  # as many as the machine is slow
    assert told == {
        "Description": 2, "Update": ROUNDS + 1, "Scores": 2, "Confusion": 2, "Sums": 2, "Tally": 1,
        "Personal": 1, "SiteError": 1,
    }  # fmt: skip


def test_the_sites_own_log_has_each_answer(captured: Captured) -> None:
    ledger = ExchangeLog(captured.site.folder / "sent.jsonl")
    lines, replies = list(ledger.entries()), captured.replies()
    assert ledger.first_break() is None
    assert [line["kind"] for line in lines] == [reply.metadata.message_type for reply in replies]
    assert [line["round"] for line in lines if line["kind"] == "train"] == [*range(1, ROUNDS + 1), 1]
    assert {line["kind"] for line in lines} == set(protocol.KINDS)
    hashes = [line_hash(line.content) for line in read_lines(ledger.path)]
    for line, digest, reply in zip(lines, hashes, replies, strict=True):
        assert wire.stamped(reply.content, wire.LOG) == digest, "the coordinator learns which line it is"
        head = reply.content.config_records["head"]
        assert line["run"] == str(reply.metadata.run_id)
        assert line["bytes"] == wire.content_bytes(reply)
        assert line["shapes"] == wire.shapes(reply.content)
        said = str(head["said"])
        assert line["sha256"] == sha256(said.encode() + head["arrays"])
        if "round" in said:
            assert f'"round": {line["round"]}' in said


def sha256(data: bytes) -> str:
    return get_object_id(data)


def test_no_name_of_file_folder_or_machine_leaves(captured: Captured) -> None:
    images = list(captured.pictures.rglob("*.png"))
    assert len(images) == 37
    words = {PATIENT, "Müller", "Station 7", ".png", str(captured.pictures)}
    words |= {str(path) for path in images} | {path.name for path in images}
    sent = [bytes(connection.sent) for connection in captured.relay.connections]
    if len(name := socket.gethostname()) > 5:  # a shorter one is found in any signature
        words.add(name)
    for word in words:
        forms = {
            word.encode(),
            word.encode("utf-16-le"),
            word.encode("latin-1"),
            word.encode("unicode_escape"),
        }
        assert not any(form in raw for form in forms for raw in sent), word


def test_processes_of_the_site_hold_no_other_connection(captured: Captured) -> None:
    watch = captured.watch
    assert any(watch.port == peer[2] for peer in watch.peers)  # what was looked at is the real thing
    assert watch.strangers() == []
    assert {address for address, _ in watch.listening} == {"127.0.0.1"}
    assert watch.others == set()


def table(captured: Captured) -> str:
    """What the site sent and was sent back, by kind: in all, and in a round in the middle."""
    in_order = sorted(
        (r for r in captured.requests if r.kind != CLOCK), key=lambda r: r.headers[TIMESTAMP_HEADER]
    )
    sessions = [n for n, r in enumerate(in_order) if r.kind == "push-messages" and b"train" in r.body]
    sessions = sessions[:ROUNDS]  # of the first run
    pulls = [n for n, r in enumerate(in_order) if r.kind == "pull-messages"]
    first, last = (min(n for n in pulls if n > session) for session in (sessions[0], sessions[-1]))
    lines = []
    for what, requests, rounds in (
        ("in all", captured.requests, 1),
        ("a round", in_order[first:last], ROUNDS - 1),
    ):
        lines.append(f"{what:26}{'requests':>9}{'headers':>9}{'bodies':>9}{'answers':>9}")
        rows = []
        for kind in (*KINDS, CLOCK):
            asked = [request for request in requests if request.kind == kind]
            answers = [a for request in asked if (a := captured.answers.get(id(request)))]
            back = sum(answer.head + len(answer.body) for answer in answers)
            rows.append((kind, len(asked), sum(r.head for r in asked), sum(len(r.body) for r in asked), back))
        rows.append(("together", *(sum(row[i] for row in rows) for i in range(1, 5))))
        lines += [f"{row[0]:26}" + "".join(f"{n / rounds:9,.0f}" for n in row[1:]) for row in rows if row[1]]
    wire = [sum(len(getattr(c, way)) for c in captured.wire.connections) for way in ("sent", "answered")]
    lines.append(
        f"with TLS, {len(captured.wire.connections)} connections: {wire[0]:,} sent, {wire[1]:,} received"
    )
    lines += [
        f"content of {entry['kind']} {entry['round']}: {entry['bytes']:,}" for entry in captured.site.sent()
    ]
    return "\n".join(lines)
