import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedtransfer.client.consent.exchange_log import ExchangeLog
from fedtransfer.common.errors import SiteError
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.support.files import append_line
from fedtransfer.common.wire.protocol import Description, Personal, Sums, Tally, Update
from fedtransfer.common.wire.records import content_bytes, pack, stamp

COUNTS = Counts(*np.ones((3, 2), np.int64), 0.5)
UPDATE = Update(
    3, "f" * 64, "c" * 16, COUNTS, COUNTS, 12, (np.ones((4, 2), np.float32), np.zeros(2, np.float32))
)
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
def exchanges(tmp_path: Path) -> ExchangeLog:
    """A log of four messages."""
    exchanges = ExchangeLog(tmp_path / "sent.jsonl")
    exchanges.write(reply(Description({"red": (8, 2, 2)}, 0), "query"), {**TASK, "round": None})
    for number in range(1, 4):
        exchanges.write(reply(), {**TASK, "round": number})
    return exchanges


def test_what_a_line_says(exchanges: ExchangeLog) -> None:
    query, *rounds = exchanges.entries()
    assert [line["round"] for line in (query, *rounds)] == [None, 1, 2, 3]
    assert (query["kind"], query["shapes"], query["before"]) == ("query", [], "0" * 64)
    last = rounds[-1]
    assert (last["kind"], last["run"], last["method"]) == ("train", "7", "fedavg")
    sent = reply()
    stamp(sent.content, "log", "0" * 64)
    assert last["bytes"] == content_bytes(sent)
    assert last["shapes"] == [["<i4", 3, 2], ["<i4", 3, 2], ["<f4", 4, 2], ["<f4", 2]]
    head = reply().content.config_records["head"]
    assert last["sha256"] == hashlib.sha256(str(head["said"]).encode() + bytes(head["arrays"])).hexdigest()  # type: ignore[arg-type]
    assert len({line["sha256"] for line in (query, last)}) == 2, "what is said without arrays counts too"
    lines = exchanges.path.read_bytes().splitlines(keepends=True)
    assert last["before"] == hashlib.sha256(lines[-2]).hexdigest()
    assert exchanges.first_break() is None


def test_a_log_that_does_not_exist_yet(tmp_path: Path) -> None:
    exchanges = ExchangeLog(tmp_path / "sent.jsonl")
    assert list(exchanges.entries()) == []
    assert exchanges.first_break() is None
    assert exchanges.rounds_since(0) == 0


def test_a_line_is_on_the_disk_before_the_message_goes(
    exchanges: ExchangeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(len(exchanges.path.read_bytes().splitlines())))
    exchanges.write(reply(), TASK)
    assert synced == [5]


def test_rounds_that_were_trained_are_counted(exchanges: ExchangeLog) -> None:
    first, *rounds = list(exchanges.entries())
    asked = Message(RecordDict(), 1, "train")
    exchanges.write(Message(Error(1, "no"), reply_to=asked), TASK)  # nothing was sent
    assert list(exchanges.entries())[-1]["bytes"] == 0
    assert exchanges.rounds_since(first["time"]) == 3
    assert exchanges.rounds_since(rounds[1]["time"]) == 2
    assert exchanges.rounds_since(rounds[2]["time"] + 60) == 0


def test_sums_that_were_sent_are_counted_as_a_round(exchanges: ExchangeLog) -> None:
    sums = Sums(0, "f" * 64, "c" * 16, 12, (np.ones((2, 4)),))
    tally = Tally(4, "f" * 64, "c" * 16, 2, np.ones((1, 1)))
    personal = Personal(4, "f" * 64, "c" * 16, 3, np.ones(4, np.int64), 0.5)
    exchanges.write(reply(sums, "train.gather"), {**TASK, "round": 0})
    assert exchanges.rounds_since(0) == 4
    exchanges.write(reply(SiteError("too-many-rounds", "…"), "train.gather"), {**TASK, "round": 0})
    exchanges.write(reply(tally, "evaluate.trial"), TASK)
    exchanges.write(reply(personal, "evaluate.personal"), TASK)
    assert exchanges.rounds_since(0) == 4


def test_a_refused_round_is_no_trained_one(exchanges: ExchangeLog) -> None:
    exchanges.write(reply(SiteError("too-many-rounds", "enough for today")), TASK)
    assert len(list(exchanges.entries())) == 5
    assert exchanges.rounds_since(0) == 3


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
def test_a_change_of_the_log_shows(
    exchanges: ExchangeLog, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    lines = exchanges.path.read_bytes().splitlines(keepends=True)
    exchanges.path.write_bytes(b"".join(change(lines)))
    broken = exchanges.first_break()
    assert broken in (1, 2, 3, 4)
    exchanges.write(reply(), TASK)
    assert exchanges.first_break() == broken, "going on hides nothing"


@pytest.mark.parametrize("torn", [b'{"time": 1', b'{"time": 1, "kind": "tr\xc3', b"\0" * 300, b"{"])
def test_a_line_that_a_power_cut_tore_stops_nothing(exchanges: ExchangeLog, torn: bytes) -> None:
    """The message of such a line has not left: it is handed over once its line is whole."""
    with exchanges.path.open("ab") as file:
        file.write(torn)
    assert len(list(exchanges.entries())) == 4
    exchanges.write(reply(), {**TASK, "round": 4})
    exchanges.write(reply(), {**TASK, "round": 5})
    assert [line["round"] for line in exchanges.entries()] == [None, 1, 2, 3, 4, 5]
    assert exchanges.rounds_since(0) == 5
    assert exchanges.first_break() is None, "nobody has changed anything"
    lines = exchanges.path.read_bytes().splitlines(keepends=True)
    assert lines[4] == torn + b" torn\n", "what is written stays"
    exchanges.path.write_bytes(b"".join(lines[:4] + lines[5:]))
    assert exchanges.first_break() == 5, "the torn line is vouched for, too"


def test_a_last_line_without_its_newline_is_whole(exchanges: ExchangeLog) -> None:
    exchanges.path.write_bytes(exchanges.path.read_bytes()[:-1])
    exchanges.write(reply(), {**TASK, "round": 4})
    assert [line["round"] for line in exchanges.entries()] == [None, 1, 2, 3, 4]
    assert exchanges.first_break() is None


def test_a_line_as_long_as_a_disk_lets_it_be_breaks_no_chain(exchanges: ExchangeLog) -> None:
    """The hash of a line is of all its bytes: once it was of the last million."""
    append_line(
        exchanges.path, {"method": 3 * 10**6 * "m", "before": "0" * 64, "kind": "train", "shapes": []}
    )
    exchanges.write(reply(), {**TASK, "round": 4})
    lines = exchanges.path.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[-1])["before"] == hashlib.sha256(lines[-2]).hexdigest()


def test_a_kind_of_message_that_a_coordinator_makes_up_is_cut(exchanges: ExchangeLog) -> None:
    exchanges.write(reply(kind="train." + "x" * 10**6), TASK)
    assert [*exchanges.entries()][-1]["kind"] == "train.".ljust(39, "x") + "…"


def test_lines_are_json_for_other_programs(exchanges: ExchangeLog) -> None:
    exchanges.write(reply(), {**TASK, "method": "größte"})
    lines = exchanges.path.read_text("utf-8").splitlines()
    assert [json.loads(line)["method"] for line in lines] == ["fedavg"] * 4 + ["größte"]
