import json
from dataclasses import asdict

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import SiteError
from common.masks.messages import Boxes, Consent, Invitation, Masked, Peers, PublicKeys, Shares, Survivors, Unmasking
from common.metrics import Counts
from common.protocol import (
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
from common.wire import _array, pack, unpack

ENVELOPE = 2048  # bytes around the payload


def counts(classes: int, seed: int = 0) -> Counts:
    rng = np.random.default_rng(seed)
    return Counts.of(rng.dirichlet(np.ones(classes), 40).astype(np.float32), rng.integers(0, classes, 40))


def arrays(features: int, classes: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(features, classes)).astype(np.float32), rng.normal(size=classes).astype(np.float32)


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
    Task("site-1", 3, ("a", "b"), arrays(8, 2), "uniform", "conv5", 0.5, "run", extra={"control": arrays(8, 2)}),
    Update(3, "f" * 64, "c" * 16, counts(3), counts(3, 1), 17, arrays(8, 3), {"control": arrays(8, 3)}),
    Gather("site-1", 0, ("a", "b"), "gram", extra={"moments": (np.zeros(8), np.ones(8))}),
    Sums(0, "f" * 64, "c" * 16, 5, (np.arange(6.0), np.eye(3, 2), np.array([2, 3]))),
    Trial("site-1", 9, ("a", "b"), (arrays(8, 2), arrays(8, 2)), (0.5, 1.0)),
    Tally(9, "f" * 64, "c" * 16, np.array([3, 4]), np.ones((2, 2), np.int64), np.ones((2, 2, 2))),
    Personal(9, "f" * 64, "c" * 16, 4, np.arange(4), 0.3),
    Gather("a", 0, ("a",), "gram", nonce="0" * 16, sharers=("a", "b"), boxes=(np.ones((1, 92), np.uint8),)),
    Invitation("a", "7", 1, "train", "0" * 16),
    PublicKeys("1" * 64, "2" * 64, ""),
    Peers("a", "7", 1, "train", "0" * 16, ("a", "b"), ("1" * 64,) * 2, ("2" * 64,) * 2, ("", "ff"), ("", "ssh")),
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


def changed(**head: object) -> RecordDict:
    records = pack(VALUES[4])
    old, own = dict(records.config_records["head"]), {"kind", "version"}
    said = {**json.loads(old["said"]), **{key: value for key, value in head.items() if key not in own}}  # type: ignore[arg-type]
    old |= {key: value for key, value in head.items() if key in own} | {"said": json.dumps(said)}  # type: ignore[assignment]
    records["head"] = ConfigRecord(old)
    return records


def with_counts(array: np.ndarray) -> RecordDict:
    records = pack(VALUES[4])
    sent = dict(records.array_records["arrays"])
    records["arrays"] = ArrayRecord({**sent, "0": _array(array)})
    return records


def without(record: str) -> RecordDict:
    records = pack(VALUES[4])
    del records[record]
    return records


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (RecordDict(), "incomplete or malformed Update"),
        (changed(version=99), "version 99 of the protocol, expected 5"),
        (changed(kind="Task"), "sent 'Task', expected Update"),
        (changed(test=[1.0]), "incomplete or malformed"),
        (changed(name="a patient"), "sent the keys .*'name'.*, expected"),
        (RecordDict({**pack(VALUES[4]), "extra": ConfigRecord({"a": 1})}), r"sent the records \['extra'\] besides"),
        (
            RecordDict({"head": pack(VALUES[4])["head"], "arrays": ArrayRecord({"w": _array(np.zeros((2, 3, 3)))})}),
            r"arrays named \['w'\], expected 0, 1",
        ),
        (without("arrays"), "incomplete or malformed"),
        (with_counts(np.zeros((3, 3))), "sent counts of type float64"),
        (with_counts(np.zeros((2, 3), np.int32)), r"shape \(2, 3\)"),
        (changed(layout=[["validation", 1], ["test", 1], ["total", 1]]), "4 arrays, laid out as"),
        (changed(layout=[["validation", 1], ["test", 1], ["total", 3]]), "4 arrays, laid out as"),
        (changed(layout=[["validation", 1], ["test", 1], ["portrait", 2]]), "4 arrays, laid out as"),
    ],
)
def test_other_records_are_refused_with_the_reason(records: RecordDict, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        unpack(records, Update)
