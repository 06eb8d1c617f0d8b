"""Replies that never come whole, or are no messages: the others arrive all the same."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ConfirmMessageReceivedResponse,
    ObjectTree,
    PullObjectRequest,
    PullObjectResponse,
    PushObjectRequest,
    PushObjectResponse,
)
from flwr.proto.node_pb2 import NodeInfo
from flwr.proto.runtime_pb2 import (
    GetNodesRequest,
    GetNodesResponse,
    PullAppMessagesRequest,
    PullAppMessagesResponse,
    PushAppMessagesRequest,
    PushAppMessagesResponse,
)
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid.http_grid import HttpGrid
from waiting import patient

from fedtransfer.common.wire import protocol
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.protocol import Preparing, Query
from fedtransfer.server.sites.admission import admit
from fedtransfer.server.sites.exchange import exchange
from fedtransfer.server.sites.network import NetworkGrid

NODES = {"anna": 11, "bert": 22, "mallory": 33}
QUERY = Query("a backbone", 64, "0" * 64)
ANSWER = Preparing(1, 2)


@dataclass
class Sent:
    """A reply as it lies at SuperLink: ``objects`` are those that were pushed."""

    message: Message  # of which the envelope is made
    objects: dict[str, bytes]
    tree: ObjectTree

    @classmethod
    def whole(cls, message: Message, node: int) -> "Sent":
        message.metadata.__dict__["_src_node_id"] = node
        message.metadata.__dict__["_message_id"] = message.object_id
        objects = {name: each.deflate() for name, each in get_all_nested_objects(message).items()}
        return cls(message, objects, get_object_tree(message))

    def replaced(self, kind: str, children: list[str], body: bytes) -> "Sent":
        """Return it with another object in place of the message."""
        data = f"{kind} {','.join(children)} {len(body)}".encode() + b"\x00" + body
        name = hashlib.sha256(data).hexdigest()
        self.message.metadata.__dict__["_message_id"] = name
        return Sent(self.message, {name: data}, ObjectTree(object_id=name))


def honest(request: Message, node: int) -> Sent:
    return Sent.whole(Message(wire.pack(ANSWER), reply_to=request), node)


def stalled(request: Message, node: int) -> Sent:
    sent = honest(request, node)
    sent.objects.popitem()
    return sent


def in_the_name_of_anna(request: Message, node: int) -> Sent:
    """Inside, the reply says that it is anna's; its envelope cannot."""
    sent = Sent.whole(Message(wire.pack(ANSWER), reply_to=request), NODES["anna"])
    sent.message.metadata.__dict__["_src_node_id"] = node
    return sent


def arrays(request: Message, node: int) -> Sent:
    record = ArrayRecord({"0": Array("float32", (1,), "numpy.ndarray", b"1234")})
    return Sent.whole(Message(RecordDict({"head": record}), reply_to=request), node)


def many(request: Message, node: int) -> Sent:
    sent = honest(request, node)
    more = [ObjectTree(object_id=f"{number:064x}") for number in range(10_001)]
    return Sent(sent.message, sent.objects, ObjectTree(object_id=sent.tree.object_id, children=more))


def one_record_under_many_names(request: Message, node: int) -> Sent:
    """One object of 100 KB, and 5 MB for whoever copies what it says."""
    record = ConfigRecord({"arrays": bytes(100_000)})
    return Sent.whole(
        Message(RecordDict({str(number): record for number in range(50)}), reply_to=request), node
    )


@dataclass
class SuperLink:
    """What ``HttpGrid`` talks to. ``mallory`` answers as the test says, the others honestly."""

    mallory: Callable[[Message, int], Sent]
    errors: int = 0  # requests that fail with HTTP 500, from the first on
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)  # message id → node
    replies: dict[str, Sent] = field(default_factory=dict)  # message id → reply
    deleted: list[str] = field(default_factory=list)

    def _answers(self) -> None:
        if self.errors:
            self.errors -= 1
            request = httpx.Request("POST", "https://superlink")
            raise httpx.HTTPStatusError("locked", request=request, response=httpx.Response(500))

    def GetNodes(self, request: GetNodesRequest) -> GetNodesResponse:
        self._answers()
        return GetNodesResponse(nodes=[NodeInfo(node_id=node, name=name) for name, node in NODES.items()])

    def PushMessages(self, request: PushAppMessagesRequest) -> PushAppMessagesResponse:
        self._answers()
        self.requests |= {m.metadata.message_id: m.metadata.dst_node_id for m in request.messages_list}
        names = {
            each.object_id for tree in request.message_object_trees for each in iterate_object_tree(tree)
        }
        return PushAppMessagesResponse(
            message_ids=list(self.requests), session_id="1", objects_to_push=sorted(names)
        )

    def PushObject(self, request: PushObjectRequest) -> PushObjectResponse:
        self.objects[request.object_id] = request.object_content
        return PushObjectResponse(stored=True)

    def PullMessages(self, request: PullAppMessagesRequest) -> PullAppMessagesResponse:
        self._answers()
        replies = [self._reply(identity) for identity in request.message_ids if identity not in self.replies]
        return PullAppMessagesResponse(
            messages_list=[message_to_proto(remove_content_from_message(reply.message)) for reply in replies],
            message_object_trees=[reply.tree for reply in replies],
        )

    def _reply(self, identity: str) -> Sent:
        node = self.requests[identity]
        message = inflate_object_from_contents(identity, dict(self.objects))
        message.metadata.__dict__["_message_id"] = identity
        sent = (self.mallory if node == NODES["mallory"] else honest)(message, node)
        self.replies[identity] = sent
        self.objects |= sent.objects
        return sent

    def PullObject(self, request: PullObjectRequest) -> PullObjectResponse:
        content = self.objects.get(request.object_id, b"")
        return PullObjectResponse(object_found=True, object_available=bool(content), object_content=content)

    def ConfirmMessageReceived(
        self, request: ConfirmMessageReceivedRequest
    ) -> ConfirmMessageReceivedResponse:
        self.deleted.append(request.message_object_id)
        return ConfirmMessageReceivedResponse()


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_task_id", 1), ("_run_id", 7), ("_node_id", SUPERLINK_NODE_ID)):
        monkeypatch.setattr(TaskIdentity, name, value)  # without which Flower makes no message


def exchanged(superlink: SuperLink, timeout: float = 5.0) -> tuple[dict[str, str], float]:
    """Query all sites; return why each was refused, and the seconds that it took."""
    grid = HttpGrid(token="a token")
    grid.set_run(Run.create_empty(run_id=7))
    grid._client = superlink  # type: ignore[assignment]
    began = time.monotonic()
    replies = exchange(NetworkGrid(grid), NODES, dict.fromkeys(NODES, QUERY), protocol.QUERY, timeout)  # type: ignore[arg-type]
    answers = admit(replies.by_site, Preparing)
    assert {answers.admitted[site] == ANSWER for site in ("anna", "bert")} == {True}
    return answers.refused, time.monotonic() - began


def test_honest_replies_arrive_and_are_deleted() -> None:
    superlink = SuperLink(honest)
    refused, seconds = exchanged(superlink)
    assert refused == {}
    assert seconds < patient(4)
    assert sorted(superlink.deleted) == sorted(s.tree.object_id for s in superlink.replies.values())


NO_MESSAGES = {
    "a record": lambda request, node: honest(request, node).replaced("ConfigRecord", [], b"\x0a\x03abc"),
    "a body of noise": lambda request, node: honest(request, node).replaced("Message", [], b"\xff" * 4),
    "no content": lambda request, node: honest(request, node).replaced("Message", [], b""),
    "a child that is missing": lambda request, node: honest(request, node).replaced(
        "Message", ["0" * 64], b""
    ),
    "an unknown kind": lambda request, node: honest(request, node).replaced("Program", [], b"abc"),
    "Flower's arrays": arrays,
    "10,001 objects": many,
    "a record under many names": one_record_under_many_names,
}


@pytest.mark.parametrize("name", NO_MESSAGES)
def test_a_reply_that_is_no_message_is_refused_at_once(name: str) -> None:
    refused, seconds = exchanged(SuperLink(NO_MESSAGES[name]), 30.0)
    assert list(refused) == ["mallory"]
    assert refused["mallory"].startswith("sent a reply that is no message (")
    assert seconds < 25, "nothing is waited for"


def test_a_reply_whose_objects_do_not_come_ends_with_the_time_for_the_round() -> None:
    superlink = SuperLink(stalled)
    refused, seconds = exchanged(superlink, 1.0)
    assert refused == {
        "mallory": "announced a reply, of which only a part arrived in time (2 of 3 objects arrived)"
    }
    assert 1.0 <= seconds < patient(10)
    assert len(superlink.deleted) == 3, "what arrived of it is deleted as well"


def test_a_reply_counts_for_the_site_that_its_envelope_names() -> None:
    """Else it would be a second reply of anna, who would be left out."""
    refused, _ = exchanged(SuperLink(in_the_name_of_anna))
    assert refused == {}


def test_superlink_may_fail_for_a_while() -> None:
    """As long as its database is locked, it answers with HTTP 500."""
    refused, _ = exchanged(SuperLink(honest, errors=3), 20.0)
    assert refused == {}
    grid = HttpGrid(token="a token")
    grid._client = SuperLink(honest, errors=2)  # type: ignore[assignment]
    assert sorted(NetworkGrid(grid).get_node_ids()) == sorted(NODES.values())


def test_a_connection_may_be_cut() -> None:
    class Cut(SuperLink):
        cuts = 0

        def PullObject(self, request: PullObjectRequest) -> PullObjectResponse:
            self.cuts += 1
            if self.cuts <= 3:
                raise httpx.ConnectError("UNEXPECTED_EOF_WHILE_READING in a TLS handshake")
            return super().PullObject(request)

    superlink = Cut(honest)
    assert exchanged(superlink, 20.0)[0] == {}
    assert superlink.cuts > 3


def test_a_request_that_superlink_refuses_is_not_made_again() -> None:
    class Refusing(SuperLink):
        def PushMessages(self, request: PushAppMessagesRequest) -> PushAppMessagesResponse:
            raise httpx.HTTPStatusError("no", request=None, response=httpx.Response(400))  # type: ignore[arg-type]

    with pytest.raises(httpx.HTTPStatusError, match="no"):
        exchanged(Refusing(honest))
