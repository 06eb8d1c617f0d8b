"""Which messages a site may push: envelope, tree and objects, against SuperLink's own tables."""

import time
from typing import Any

import pytest
from deployment.parcel import Parcel
from flwr.app import Message, RecordDict
from flwr.app.message import make_message
from flwr.app.metadata import Metadata
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID, SUPERLINK_NODE_ID
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree, PushObjectRequest
from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.object_store.sql_object_store import SqlObjectStore
from flwr.superlink.federation import NoOpFederationManager

from fedtransfer.server.deployment.gate.answers import (
    TooLarge,
    TooLate,
    Upload,
    Uploads,
    check_answer,
    may_confirm,
)
from fedtransfer.server.deployment.gate.identity import Site
from fedtransfer.server.deployment.gate.refusals import Refusal
from fedtransfer.server.deployment.gate.replacement import answer_instead, drop_answer
from fedtransfer.server.sites.answer_size import LEAST_BYTES, REFUSED_AT_THE_GATE, group_of


class World:
    """SuperLink's tables with a run, two sites, and a message to each."""

    def __init__(self) -> None:
        store = SqlObjectStore(":memory:")
        store.initialize()
        self.state = SqlLinkState(":memory:", NoOpFederationManager(), store)
        self.state.initialize()
        self.sites = [self._site(name) for name in ("anna", "eve")]
        self.run = self.state.create_run(
            "app", "1", "hash", {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        [info] = self.state.get_run_info(run_ids=[self.run])
        assert info.primary_task_id
        self.state.claim_task(info.primary_task_id)
        self.state.activate_task(info.primary_task_id)
        self.messages = [self._message(site) for site in self.sites]

    def _site(self, name: str) -> Site:
        number = self.state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, name.encode(), 30.0, name=name)
        self.state.activate_node(number, 30.0)
        return Site(number, name)

    def _message(self, site: Site) -> Message:
        metadata = Metadata(
            run_id=self.run, message_id="", src_node_id=SUPERLINK_NODE_ID, dst_node_id=site.node_id,
            reply_to_message_id="", group_id=group_of(), created_at=time.time(), ttl=3600.0,
            message_type="train",
        )  # fmt: skip
        message = make_message(metadata=metadata, content=RecordDict())
        message.metadata.__dict__["_message_id"] = message.object_id
        assert self.state.store_message_ins(message)
        return message

    def answer(self, of: int = 1) -> Parcel:
        """An honest answer of eve, or of anna."""
        return Parcel.of(Message(RecordDict(), reply_to=self.messages[of]))

    def check(self, *parcels: Parcel) -> Upload:
        """Have eve push parcels in one request."""
        request = PushMessagesRequest(
            messages_list=[parcel.envelope for parcel in parcels],
            message_object_trees=[parcel.tree for parcel in parcels],
        )
        return check_answer(self.sites[1], request, self.state)

    def errors(self) -> list[tuple[int, str]]:
        """The errors that the ServerApp gets in place of answers."""
        ids = {str(message.metadata.message_id) for message in self.messages}
        return [
            (reply.error.code, str(reply.error.reason))
            for reply in self.state.get_message_res(ids, self.run)
            if reply.has_error()
        ]


@pytest.fixture(scope="module")
def tables() -> World:
    return World()


@pytest.fixture
def world(tables: World) -> World:
    """The same, with the messages as they were, and no answer."""
    tables.state.query("DELETE FROM message_res")
    tables.state.query("DELETE FROM message_ins")
    for message in tables.messages:
        tables.state.store_message_ins(message)
    return tables


def test_an_honest_answer_passes_with_the_limit_that_its_message_names(world: World) -> None:
    upload = world.check(world.answer())
    assert (upload.site.name, upload.run_id, upload.most) == ("eve", world.run, LEAST_BYTES)


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("src_node_id", SUPERLINK_NODE_ID, "in the name of another"),
        ("dst_node_id", 4242, "to another site"),
        ("reply_to_message_id", "", "answers none"),
        ("run_id", 4242, "a message that did not go to it"),
        ("message_id", "0" * 64, "under another id than its own"),
    ],
)
def test_a_false_envelope_is_refused(world: World, field: str, value: Any, why: str) -> None:
    parcel = world.answer()
    setattr(parcel.envelope.metadata, field, value)
    with pytest.raises(Refusal, match=why):
        world.check(parcel)


def test_an_answer_to_another_sites_message_is_refused(world: World) -> None:
    parcel = world.answer(of=0)
    parcel.envelope.metadata.src_node_id = world.sites[1].node_id
    with pytest.raises(Refusal, match="a message that did not go to it"):
        world.check(parcel)
    with pytest.raises(Refusal, match="several messages in one request, or none"):
        world.check(world.answer(), world.answer())


def test_an_answer_that_nobody_waits_for_is_too_late(world: World) -> None:
    parcel = world.answer()
    world.state.delete_messages({str(world.messages[1].metadata.message_id)})
    with pytest.raises(TooLate):
        world.check(parcel)


@pytest.mark.parametrize("shape", ["wide", "deep"])
def test_a_tree_of_too_many_objects_is_refused(world: World, shape: str) -> None:
    parcel = world.answer()
    node = parcel.tree
    for number in range(90):
        child = ObjectTree(object_id=f"{number:064x}")
        node.children.append(child)
        node = node.children[-1] if shape == "deep" else node
    with pytest.raises(Refusal, match="of more than 9 objects, or more than 4 deep") as caught:
        world.check(parcel)
    assert caught.value.instruction == world.messages[1].metadata.message_id


def test_an_object_under_no_hash_is_refused(world: World) -> None:
    parcel = world.answer()
    parcel.tree.children.append(ObjectTree(object_id="../../etc/passwd"))
    with pytest.raises(Refusal, match="under no hash"):
        world.check(parcel)


def test_a_second_answer_is_refused_but_not_the_same_again(world: World) -> None:
    uploads, (anna, eve) = Uploads(), world.sites
    first, second = world.answer(), world.answer()
    assert first.tree.object_id != second.tree.object_id
    uploads.check_first(eve, first.envelope.metadata)
    uploads.note_answer(eve, first.envelope.metadata.reply_to_message_id, first.tree.object_id)
    uploads.check_first(eve, first.envelope.metadata)
    uploads.check_first(anna, second.envelope.metadata)
    for _ in range(2):
        with pytest.raises(Refusal, match="a second time"):
            uploads.check_first(eve, second.envelope.metadata)


def test_after_a_refused_answer_there_is_no_other(world: World) -> None:
    uploads, eve, parcel = Uploads(), world.sites[1], world.answer()
    uploads.note_answer(eve, parcel.envelope.metadata.reply_to_message_id)
    with pytest.raises(Refusal, match="a second time"):
        uploads.check_first(eve, parcel.envelope.metadata)


def test_a_site_confirms_only_what_went_to_it(world: World) -> None:
    def confirm(name: str) -> bool:
        return may_confirm(world.sites[1], ConfirmMessageReceivedRequest(message_object_id=name), world.state)

    assert confirm(str(world.messages[1].metadata.message_id))
    assert not confirm("0" * 64)
    with pytest.raises(Refusal, match="confirmed a message that did not go to it"):
        confirm(str(world.messages[0].metadata.message_id))


def test_an_error_takes_the_place_of_a_refused_answer(world: World) -> None:
    instruction = str(world.messages[1].metadata.message_id)
    answer_instead(world.state, world.sites[1], Refusal(403, "sent too much", instruction))
    answer_instead(world.state, world.sites[1], Refusal(403, "sent too much again", instruction))
    assert world.errors() == [(REFUSED_AT_THE_GATE, "sent too much")]
    answer_instead(world.state, world.sites[1], Refusal(403, "sent too much", "gone"))
    others = str(world.messages[0].metadata.message_id)
    answer_instead(world.state, world.sites[1], Refusal(403, "sent too much", others))
    assert world.errors() == []


def test_an_answer_that_is_dropped_half_way_makes_room_for_an_error(world: World) -> None:
    session = world.state.start_session(world.run)
    message = Message(RecordDict(), reply_to=world.messages[1])
    parcel = Parcel.of(message)
    world.state.store_message_and_object_tree(message, parcel.tree, session)
    drop_answer(world.state, parcel.tree.object_id)
    instruction = str(world.messages[1].metadata.message_id)
    answer_instead(world.state, world.sites[1], Refusal(403, "sent too much", instruction))
    assert world.errors() == [(REFUSED_AT_THE_GATE, "sent too much")]


def test_objects_belong_to_an_announced_answer_and_stay_within_its_bytes() -> None:
    anna, eve, uploads = Site(7, "anna"), Site(8, "eve"), Uploads()
    uploads.add("session", Upload(eve, 1, "message", "root", 100, frozenset({"a", "b"})))
    assert (uploads.largest(eve), uploads.largest(anna)) == (100, 0)

    def push(site: Site, name: str, size: int, session: str = "session") -> None:
        content = bytes(size)
        uploads.take(site, PushObjectRequest(session_id=session, object_id=name, object_content=content))

    for site, name, session in ((anna, "a", "session"), (eve, "c", "session"), (eve, "a", "other")):
        with pytest.raises(Refusal, match="an object that it had not announced"):
            push(site, name, 1, session)
    push(eve, "a", 60)
    push(eve, "a", 60)  # the same again, after an answer that was lost
    with pytest.raises(TooLarge, match="an answer of more than 100 bytes"):
        push(eve, "b", 60)
    assert uploads.largest(eve) == 0


def test_an_answer_is_forgotten_once_it_is_complete_or_tried_again() -> None:
    eve, uploads = Site(8, "eve"), Uploads()
    for session in ("first", "second"):
        uploads.add(session, Upload(eve, 1, "message", "root", 100, frozenset({"a"})))
    with pytest.raises(Refusal):
        uploads.take(eve, PushObjectRequest(session_id="first", object_id="a"))
    uploads.take(eve, PushObjectRequest(session_id="second", object_id="a"))
    uploads.complete("second")
    assert uploads.largest(eve) == 0


def test_an_answer_that_is_announced_again_goes_on() -> None:
    """Its first announcement was heard, but the reply was lost."""
    anna, eve, uploads = Site(7, "anna"), Site(8, "eve"), Uploads()
    uploads.add("session", Upload(eve, 1, "message", "root", 100, frozenset({"a", "b"})))
    uploads.take(eve, PushObjectRequest(session_id="session", object_id="a"))
    assert uploads.resume(eve, "root") == ("session", ["b"])
    assert uploads.resume(anna, "root") == uploads.resume(eve, "other") == ("", [])
