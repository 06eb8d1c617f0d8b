"""A message in one process is what Flower's wire would bring, and belongs to its receiver alone."""

from pathlib import Path
from typing import Any

import pytest
from drawn_sites import Drawn, three_sites
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto

from fedtransfer.common.masks import messages
from fedtransfer.common.wire import protocol
from fedtransfer.simulations.engines import inprocess
from fedtransfer.simulations.engines.inprocess import handed_over

STAGES = (messages.KEYS, messages.PEERS, messages.SURVIVORS, messages.UNMASK)


def trip(message: Message) -> Message:
    """Bring a message over the wire."""
    return message_from_proto(message_to_proto(message))


def content(message: Message) -> list[tuple[str, type, list[tuple[str, type, Any]]]]:
    """Return everything in the records that admission and the site see, in order, with types."""
    return [
        (name, type(record), [(key, type(value), value) for key, value in record.items()])
        for name, record in message.content.items()
    ]


def assert_equal(one: Message, other: Message) -> None:
    assert vars(one.metadata) == vars(other.metadata)
    assert one.has_content() == other.has_content()
    if one.has_content():
        assert content(one) == content(other)
    else:
        assert one.error == other.error
    assert message_to_proto(one) == message_to_proto(other)


def made(content: RecordDict) -> Message:
    return Message(content, 3, "query", group_id="group", ttl=60.0)


RUNS: tuple[dict[str, Any], ...] = (
    {"personal_epochs": 1, "standardise": "federated", "init": "fed3r"},
    {"strategy": "scaffold"},
    {"strategy": "fedncm"},
    {"masks": True, "classes": "declared", "class_names": "a,b,c", "personal_epochs": 1},
)


def test_every_kind_of_message_is_as_the_wire_would_bring_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: set[str] = set()

    def watched(message: Message) -> Message:
        kinds.add(message.metadata.message_type)
        assert_equal(copied := handed_over(message), trip(message))
        assert_is_its_own(copied, message)
        return copied

    monkeypatch.setattr(inprocess, "handed_over", watched)
    for number, settings in enumerate(RUNS):
        Drawn(three_sites(), tmp_path / str(number)).run(rounds=2, **settings)
    assert kinds == {*protocol.KINDS, *STAGES}


def assert_is_its_own(copied: Message, message: Message) -> None:
    """No container of one message is in the other; what both hold cannot be changed."""
    assert copied.metadata is not message.metadata
    assert copied.content is not message.content
    for name, record in copied.content.items():
        assert record is not message.content[name]
        assert all(isinstance(value, bytes | str | int) for value in record.values())


def test_neither_side_changes_what_the_other_holds() -> None:
    sent = made(RecordDict({"head": ConfigRecord({"version": 7, "data": b"\0\1", "list": [1, 2]})}))
    sent.content["plain"] = ConfigRecord({"data": b"bytes"})
    plain = made(RecordDict({"head": ConfigRecord({"data": b"bytes"})}))
    for message in (sent, plain):
        before = content(trip(message))
        received = handed_over(message)
        received.content["head"]["data"] = b"other"
        received.content["more"] = ConfigRecord()
        received.metadata.dst_node_id = 99
        if "list" in received.content["head"]:
            received.content["head"]["list"].append(3)
        assert content(message) == before
        assert message.metadata.dst_node_id == 3
        received = handed_over(message)
        message.content["head"]["data"] = b"changed"
        del message.content["head"]
        assert content(received) == before


@pytest.mark.parametrize(
    "record",
    [
        ConfigRecord({"text": "Straße", "Größe": 1}),
        ConfigRecord({"number": -1, "large": 2**64 - 1, "real": 0.1, "truth": True}),
        ConfigRecord({"list": [1, 2], "texts": ["a", "b"], "empty": []}),
        MetricRecord({"loss": 0.5}),
        ArrayRecord({"x": Array("float32", (1,), "numpy.ndarray", b"\0\0\0\0")}),
    ],
)
def test_what_the_project_does_not_send_takes_the_wires_way(record: Any) -> None:
    message = made(RecordDict({"r": record}))
    assert_equal(handed_over(message), trip(message))


@pytest.mark.parametrize(
    "record", [{"text": "\udcff"}, {"\udcff": 1}, {"number": 2**64}, {"number": -(2**63) - 1}]
)
def test_what_no_wire_carries_is_refused(record: dict[str, Any]) -> None:
    """A class name from a file name that is no Unicode, say: a deployment would fail on it."""
    for carry in (trip, handed_over):
        with pytest.raises((UnicodeEncodeError, ValueError)):
            carry(made(RecordDict({"r": ConfigRecord(record)})))


def test_an_error_is_handed_over_too() -> None:
    message = Message(Error(3, "why"), reply_to=made(RecordDict()))
    assert_equal(handed_over(message), trip(message))
