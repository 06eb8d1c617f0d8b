import json
from dataclasses import asdict
from typing import cast

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtransfer.common.errors import SiteError
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.masks.messages import (
    Boxes,
    Consent,
    Invitation,
    Masked,
    Peers,
    PublicKeys,
    Shares,
    Survivors,
    Unmasking,
)
from fedtransfer.common.wire.protocol import (
    Confusion,
    Description,
    Gather,
    Personal,
    ProtocolError,
    Query,
    Scores,
    Sums,
    Tally,
    Task,
    Trial,
    Update,
)
from fedtransfer.common.wire.records import array_bytes, digest, pack, shapes, unpack

ENVELOPE = 2048  # bytes around the payload


def counts(classes: int, seed: int = 0) -> Counts:
    rng = np.random.default_rng(seed)
    return Counts.of(rng.dirichlet(np.ones(classes), 40).astype(np.float32), rng.integers(0, classes, 40))


def arrays(features: int, classes: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(features, classes)).astype(np.float32), rng.normal(size=classes).astype(
        np.float32
    )


def over_the_wire(records: RecordDict) -> tuple[RecordDict, int]:
    wire = recorddict_to_proto(records)
    return recorddict_from_proto(wire), wire.ByteSize()


VALUES = [
    Query("net", 64, "f" * 64),
    Description({"Katze": (1, 2, 3), "犬 2": (0, 0, 1)}, 4),
    Task("site-1", 3, ("a", "b b", "ç"), arrays(8, 3)),
    Scores(3, "f" * 64, "c" * 16, counts(3), counts(3, 1)),
    Update(3, "f" * 64, "c" * 16, counts(3), counts(3, 1), 17, arrays(8, 3)),
    Confusion(3, "f" * 64, "c" * 16, counts(3), counts(3, 1), np.eye(3, dtype=np.int64)),
    Task(
        "site-1", 3, ("a", "b"), arrays(8, 2), "uniform", "conv5", 0.5, "run", extra={"control": arrays(8, 2)}
    ),
    Update(3, "f" * 64, "c" * 16, counts(3), counts(3, 1), 17, arrays(8, 3), {"control": arrays(8, 3)}),
    Gather("site-1", 0, ("a", "b"), "gram", extra={"moments": (np.zeros(8), np.ones(8))}),
    Sums(0, "f" * 64, "c" * 16, 5, (np.arange(6.0), np.eye(3, 2), np.array([2, 3]))),
    Trial("site-1", 9, ("a", "b"), (arrays(8, 2), arrays(8, 2)), (0.5, 1.0)),
    Tally(9, "f" * 64, "c" * 16, 3, np.ones((2, 2))),
    Personal(9, "f" * 64, "c" * 16, 4, np.arange(4), 0.3),
    Gather("a", 0, ("a",), "gram", nonce="0" * 16, sharers=("a", "b"), boxes=(np.ones((1, 92), np.uint8),)),
    Invitation("a", "7", 1, "train", "0" * 16),
    PublicKeys("1" * 64, "2" * 64, ""),
    Peers(
        "a", "7", 1, "train", "0" * 16, ("a", "b"), ("1" * 64,) * 2, ("2" * 64,) * 2, ("", "ff"), ("", "ssh")
    ),
    Boxes(np.arange(6, dtype=np.uint8).reshape(2, 3)),
    Masked(1, "f" * 64, "c" * 16, np.array([0, 2**64 - 1], np.uint64)),
    Survivors("a", "7", 1, "train", "0" * 16, ("a", "b")),
    Consent("ff"),
    Unmasking("a", "7", 1, "train", "0" * 16, ("a", "b"), ("a",), ("ff",)),
    Shares(np.zeros((2, 32), np.uint8)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_arrive_as_they_were_sent(value: object) -> None:
    received, _ = over_the_wire(pack(value))
    copy = unpack(received, type(value))
    assert type(copy) is type(value)
    np.testing.assert_equal(asdict(copy), asdict(value))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 512), st.integers(2, 300))
def test_a_message_is_its_payload_and_at_most_2_kb(features: int, classes: int) -> None:
    names = tuple(f"class number {i}" for i in range(classes))
    head = 4 * classes * (features + 1)
    _, down = over_the_wire(pack(Task("a site", 1, names, arrays(features, classes))))
    assert down <= head + sum(len(name) + 4 for name in names) + ENVELOPE
    _, up = over_the_wire(
        pack(Update(1, "f" * 64, "c" * 16, counts(classes), counts(classes), 9, arrays(features, classes)))
    )
    assert up <= head + 24 * classes + ENVELOPE
    if classes <= 40:
        assert up <= head + ENVELOPE, "for usual numbers of classes the counts fit into the 2 KB"


def test_a_refusal_arrives_as_itself() -> None:
    with pytest.raises(SiteError, match="why not") as caught:
        unpack(over_the_wire(pack(SiteError("some-code", "why not")))[0], Update)
    assert caught.value.code == "some-code"


def test_the_arrays_of_a_message_travel_in_one_object() -> None:
    records = pack(VALUES[7])
    assert list(records) == ["head"]
    assert shapes(records) == [["<i4", 3, 3], ["<i4", 3, 3], *[["<f4", 8, 3], ["<f4", 3]] * 2]
    assert array_bytes(records) == 40 + 40 + 2 * (96 + 16), "each array begins at a multiple of 8 bytes"
    assert shapes(pack(SiteError("a", "b"))) == []


@pytest.mark.parametrize("length", [5 * 2**17 - 1, 5 * 2**17, 5 * 2**17 + 1, 17 * 2**17])
def test_long_ones_travel_in_pieces_of_5_mib(length: int) -> None:
    """No HTTP request grows with the head. Pieces that are alike are one object to Flower."""
    value = Sums(0, "f" * 64, "c" * 16, 5, (np.zeros(length), np.arange(3)))
    records, _ = over_the_wire(pack(value))
    assert all(len(record["arrays"]) <= 5 * 2**20 for record in records.config_records.values())  # type: ignore[arg-type]
    assert len(records) == -(-(length + 3) // (5 * 2**17))
    assert array_bytes(records) == 8 * (length + 3)
    shuffled = RecordDict({name: records[name] for name in reversed(list(records))})
    copy = unpack(shuffled, Sums)
    assert digest(shuffled) == digest(records)
    np.testing.assert_equal(asdict(copy), asdict(value))


def inflated(records: RecordDict) -> RecordDict:
    """Take records through the objects in which a deployment moves them."""
    objects = {number: each.deflate() for number, each in get_all_nested_objects(records).items()}
    return cast(RecordDict, inflate_object_from_contents(records.object_id, objects))


def test_messages_survive_as_flowers_objects() -> None:
    value = Sums(0, "f" * 64, "c" * 16, 5, (np.zeros(15 * 2**17), np.arange(3)))
    np.testing.assert_equal(asdict(unpack(inflated(pack(value)), Sums)), asdict(value))
    for value in VALUES:
        assert len(get_all_nested_objects(pack(value))) == 2
        np.testing.assert_equal(asdict(unpack(inflated(pack(value)), type(value))), asdict(value))


def test_what_is_read_is_aligned_and_cannot_be_written() -> None:
    for array in unpack(over_the_wire(pack(VALUES[9]))[0], Sums).arrays:
        assert array.flags.aligned
        assert not array.flags.writeable


def test_the_digest_is_of_what_is_said_and_of_the_arrays() -> None:
    update, *others = (
        Sums(0, "f", "c", n, (np.array(told),)) for n, told in ((5, [1.0, 2]), (6, [1.0, 2]), (5, [1.0, 3]))
    )
    assert digest(pack(update)) == digest(over_the_wire(pack(update))[0])
    assert len({digest(pack(value)) for value in (update, *others)}) == 3


def changed(**head: object) -> RecordDict:
    records = pack(VALUES[4])
    old, own = dict(records.config_records["head"]), {"kind", "version", "arrays"}
    said = {**json.loads(str(old["said"])), **{key: value for key, value in head.items() if key not in own}}
    old |= {key: value for key, value in head.items() if key in own} | {"said": json.dumps(said)}  # type: ignore[assignment]
    return RecordDict({"head": ConfigRecord(old)})


DATA = bytes(pack(VALUES[4]).config_records["head"]["arrays"])  # type: ignore[arg-type]
COUNTS, HEAD = ["<i4", 3, 3], [["<f4", 8, 3], ["<f4", 3]]


def with_counts(array: np.ndarray) -> RecordDict:
    """Send other counts of validation images, laid out as they are."""
    room = -(-array.nbytes // 8) * 8
    layout = [["validation", [[array.dtype.str, *array.shape]]], ["test", [COUNTS]], ["total", HEAD]]
    return changed(layout=layout, arrays=array.tobytes().ljust(room, b"\0") + DATA[40:])


def with_kernel(*shape: object, data: bytes = DATA) -> RecordDict:
    """Say something else of the bytes of the kernel."""
    return changed(
        layout=[["validation", [COUNTS]], ["test", [COUNTS]], ["total", [shape, HEAD[1]]]], arrays=data
    )


def without(key: str) -> RecordDict:
    head = dict(pack(VALUES[4]).config_records["head"])
    del head[key]
    return RecordDict({"head": ConfigRecord(head)})


def and_(**records: ConfigRecord | ArrayRecord) -> RecordDict:
    return RecordDict({**pack(VALUES[4]), **records})


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (RecordDict(), "incomplete or malformed Update"),
        (changed(version=99), "version 99 of the protocol, expected 7"),
        (changed(kind="Task"), "sent 'Task', expected Update"),
        (changed(test=[1.0]), "incomplete or malformed"),
        (changed(name="a patient"), "sent the keys .*'name'.*, expected"),
        (and_(extra=ConfigRecord({"a": 1})), r"sent the records \['extra'\] besides"),
        (and_(arrays=ArrayRecord()), r"sent the records \['arrays'\] besides"),
        (and_(**{"1": ConfigRecord({"arrays": bytes(8)})}), "200 bytes, of which the layout says 192"),
        (and_(**{"2": ConfigRecord({"arrays": b""})}), r"sent the records \['2'\] besides"),
        (and_(**{"1": ArrayRecord()}), "incomplete or malformed"),
        (and_(**{"1": ConfigRecord({"arrays": "text"})}), "incomplete or malformed"),
        (without("arrays"), "incomplete or malformed"),
        (without("said"), "incomplete or malformed"),
        (with_counts(np.zeros((3, 3))), "sent counts of type float64"),
        (with_counts(np.zeros((2, 3), np.int32)), r"shape \(2, 3\)"),
        (changed(arrays=DATA[:-8]), "buffer is too small"),
        (changed(arrays=DATA[:-4]), "188 bytes, of which the layout says 192"),
        (changed(arrays=DATA + bytes(8)), "200 bytes, of which the layout says 192"),
        (changed(arrays=b""), "buffer is too small"),
        (
            changed(layout=[["validation", [COUNTS]], ["test", [COUNTS]], ["portrait", HEAD]]),
            r"arrays for \['portrait'\]",
        ),
        (
            changed(layout=[["validation", [COUNTS]], ["test", [COUNTS]], ["total", HEAD[:1]]]),
            "the layout says 176",
        ),
        (
            changed(layout=[["validation", [COUNTS]], ["test", [COUNTS]], ["total", [*HEAD, HEAD[1]]]]),
            "too small",
        ),
        (changed(layout=[]), "of which the layout says 0"),
        (changed(layout=None), "incomplete or malformed"),
        (changed(layout=[["validation"]]), "incomplete or malformed"),
        (with_kernel(), "incomplete or malformed"),
        (with_kernel("<f4", -8, -3), "negative"),
        (with_kernel("<f4", 8.0, 3), "incomplete or malformed"),
        (with_kernel("<f4", "8", 3), "incomplete or malformed"),
        (with_kernel("<f4", 2**40, 2**20), "incomplete or malformed"),
        (with_kernel("<f4", 10**30), "incomplete or malformed"),
        (with_kernel("<f4", 0, 10**30), "incomplete or malformed"),
        (with_kernel("<f4", *[1] * 100), "incomplete or malformed"),
        (with_kernel("<f8", 8, 3), "too small"),
        (with_kernel("|O", 12), r"an array of type '\|O'"),
        (with_kernel("|V96", 1), r"an array of type '\|V96'"),
        (with_kernel("<U1", 24), "an array of type '<U1'"),
        (with_kernel("<f4,<f4", 12), "an array of type"),
        (with_kernel("(3,)<f4", 8), "an array of type"),
        (with_kernel("nonsense", 24), "incomplete or malformed"),
        (with_kernel(None, 12), "incomplete or malformed"),
    ],
)
def test_other_records_are_refused_with_the_reason(records: RecordDict, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        unpack(records, Update)
