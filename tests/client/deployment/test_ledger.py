import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedtransfer.client.deployment.ledger import Ledger
from fedtransfer.common.errors import SiteError
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.wire.protocol import Description, Personal, Sums, Tally, Update
from fedtransfer.common.wire.records import content_bytes, pack

COUNTS = Counts(*np.ones((3, 2), np.int64), 0.5)
UPDATE = Update(3, "f" * 64, "c" * 16, COUNTS, COUNTS, 12, (np.ones((4, 2), np.float32), np.zeros(2, np.float32)))
TASK = {"run": "7", "round": 3, "method": "fedavg"}


def reply(value: object = UPDATE, kind: str = "train") -> Message:
    asked = Message(RecordDict(), 1, kind)
    return Message(pack(value), reply_to=asked)


@pytest.fixture(autouse=True)
def _within_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be what Flower wants every message to be from."""
    for name, number in (("_task_id", 1), ("_run_id", 7), ("_node_id", 5)):
        monkeypatch.setattr(TaskIdentity, name, number)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A log of four messages."""
    ledger = Ledger(tmp_path / "sent.jsonl")
    ledger.write(reply(Description({"red": (8, 2, 2)}, 0), "query"), {**TASK, "round": None})
    for number in range(1, 4):
        ledger.write(reply(), {**TASK, "round": number})
    return ledger


def test_what_a_line_says(ledger: Ledger) -> None:
    query, *rounds = ledger.lines()
    assert [line["round"] for line in (query, *rounds)] == [None, 1, 2, 3]
    assert (query["kind"], query["shapes"], query["before"]) == ("query", [], "0" * 64)
    last = rounds[-1]
    assert (last["kind"], last["run"], last["method"]) == ("train", "7", "fedavg")
    assert last["bytes"] == content_bytes(reply())
    assert last["shapes"] == [["<i4", 3, 2], ["<i4", 3, 2], ["<f4", 4, 2], ["<f4", 2]]
    head = reply().content.config_records["head"]
    assert last["sha256"] == hashlib.sha256(str(head["said"]).encode() + bytes(head["arrays"])).hexdigest()  # type: ignore[arg-type]
    assert len({line["sha256"] for line in (query, last)}) == 2, "what is said without arrays counts too"
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    assert last["before"] == hashlib.sha256(lines[-2]).hexdigest()
    assert ledger.first_break() is None


def test_a_log_that_does_not_exist_yet(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "sent.jsonl")
    assert list(ledger.lines()) == []
    assert ledger.first_break() is None
    assert ledger.rounds_since(0) == 0


def test_a_line_is_on_the_disk_before_the_message_goes(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(len(ledger.path.read_bytes().splitlines())))
    ledger.write(reply(), TASK)
    assert synced == [5]


def test_rounds_that_were_trained_are_counted(ledger: Ledger) -> None:
    first, *rounds = list(ledger.lines())
    asked = Message(RecordDict(), 1, "train")
    ledger.write(Message(Error(1, "no"), reply_to=asked), TASK)  # nothing was sent
    assert list(ledger.lines())[-1]["bytes"] == 0
    assert ledger.rounds_since(first["time"]) == 3
    assert ledger.rounds_since(rounds[1]["time"]) == 2
    assert ledger.rounds_since(rounds[2]["time"] + 60) == 0


def test_sums_that_were_sent_are_counted_as_a_round(ledger: Ledger) -> None:
    sums = Sums(0, "f" * 64, "c" * 16, 12, (np.ones((2, 4)),))
    tally = Tally(4, "f" * 64, "c" * 16, np.ones(2, np.int64), np.ones((1, 2), np.int64), np.ones((1, 1, 2)))
    personal = Personal(4, "f" * 64, "c" * 16, 3, np.ones(4, np.int64), 0.5)
    ledger.write(reply(sums, "train.gather"), {**TASK, "round": 0})
    assert ledger.rounds_since(0) == 4
    ledger.write(reply(SiteError("too-many-rounds", "…"), "train.gather"), {**TASK, "round": 0})
    ledger.write(reply(tally, "evaluate.trial"), TASK)
    ledger.write(reply(personal, "evaluate.personal"), TASK)
    assert ledger.rounds_since(0) == 4


def test_a_refused_round_is_no_trained_one(ledger: Ledger) -> None:
    ledger.write(reply(SiteError("too-many-rounds", "enough for today")), TASK)
    assert len(list(ledger.lines())) == 5
    assert ledger.rounds_since(0) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [lines[0], lines[1].replace(b'"round": 1', b'"round": 9'), *lines[2:]],
        lambda lines: [lines[0], lines[1].replace(b"}\n", b" }\n"), *lines[2:]],
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: [lines[0], lines[2], lines[1], lines[3]],
        lambda lines: [lines[0], lines[1], lines[1], *lines[2:]],
        lambda lines: [lines[0], lines[1], b"\n", *lines[2:]],
        lambda lines: lines[1:],
        lambda lines: [lines[0], b"no JSON\n", *lines[2:]],
        lambda lines: [lines[0], b"[]\n", *lines[2:]],
    ],
)
def test_a_change_of_the_log_shows(ledger: Ledger, change: Callable[[list[bytes]], list[bytes]]) -> None:
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    ledger.path.write_bytes(b"".join(change(lines)))
    broken = ledger.first_break()
    assert broken in (1, 2, 3, 4)
    ledger.write(reply(), TASK)
    assert ledger.first_break() == broken, "going on hides nothing"


@pytest.mark.parametrize("torn", [b'{"time": 1', b'{"time": 1, "kind": "tr\xc3', b"\0" * 300, b"{"])
def test_a_line_that_a_power_cut_tore_stops_nothing(ledger: Ledger, torn: bytes) -> None:
    """The message of such a line has not left: it is handed over once its line is whole."""
    with ledger.path.open("ab") as file:
        file.write(torn)
    assert len(list(ledger.lines())) == 4
    ledger.write(reply(), {**TASK, "round": 4})
    ledger.write(reply(), {**TASK, "round": 5})
    assert [line["round"] for line in ledger.lines()] == [None, 1, 2, 3, 4, 5]
    assert ledger.rounds_since(0) == 5
    assert ledger.first_break() is None, "nobody has changed anything"
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    assert lines[4] == torn + b"\n", "what is written stays"
    ledger.path.write_bytes(b"".join(lines[:4] + lines[5:]))
    assert ledger.first_break() == 5, "the torn line is vouched for, too"


def test_a_last_line_without_its_newline_is_whole(ledger: Ledger) -> None:
    ledger.path.write_bytes(ledger.path.read_bytes()[:-1])
    ledger.write(reply(), {**TASK, "round": 4})
    assert [line["round"] for line in ledger.lines()] == [None, 1, 2, 3, 4]
    assert ledger.first_break() is None


def test_lines_are_json_for_other_programs(ledger: Ledger) -> None:
    ledger.write(reply(), {**TASK, "method": "größte"})
    lines = ledger.path.read_text("utf-8").splitlines()
    assert [json.loads(line)["method"] for line in lines] == ["fedavg"] * 4 + ["größte"]
