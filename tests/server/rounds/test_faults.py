"""Bad replies and faults in whole runs of the real apps. The table is in docs/faults.md.

Four sites on real images; ``mallory`` misbehaves, in each round in another way: most of a short
run is its end, when it exports models. The run must end with the head that a run without her ends
with, bit for bit, or stop with the right message.
"""

import csv
import errno
import json
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid
from pictures import COLOURS, picture
from waiting import patient

from fedtransfer.client.app import app as client_app
from fedtransfer.common.backbone.backbone import load_backbone
from fedtransfer.common.config.config import BUNDLED, RunConfig
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.features.extraction import extract, open_store
from fedtransfer.common.wire.protocol import Description, Scores, Sums, Update, classes_digest
from fedtransfer.common.wire.records import _padded, array_bytes, pack, unpack
from fedtransfer.server.app import make_app
from fedtransfer.simulations.engines.inprocess import InProcessGrid, SimulatedSite, run_in_process

pytestmark = pytest.mark.run

HONEST = ("anna", "bert", "carl")
Tamper = Callable[[Message], RecordDict | Message | None]


def head_of(reply: Message) -> dict:
    return json.loads(reply.content.config_records["head"]["said"])


def stating(**changes: object) -> Tamper:
    """Change what the reply states; None removes a key."""

    def tamper(reply: Message) -> RecordDict:
        head, own = dict(reply.content.config_records["head"]), {"kind", "version", "arrays"}
        said = {**head_of(reply), **{key: value for key, value in changes.items() if key not in own}}
        head |= {key: value for key, value in changes.items() if key in own}  # type: ignore[assignment]
        head["said"] = json.dumps({key: value for key, value in said.items() if value is not None})
        return RecordDict({**reply.content, "head": ConfigRecord(head)})

    return tamper


def sending(change: Callable[[list[np.ndarray]], list[np.ndarray]]) -> Tamper:
    """Change an update's arrays: counts (3, C) of validation and test, kernel (d, C), bias (C,)."""

    def tamper(reply: Message) -> RecordDict:
        sent = unpack(reply.content, Update)
        counts = [
            np.stack([c.images, c.predicted, c.correct]).astype(np.int32)
            for c in (sent.validation, sent.test)
        ]
        changed = change([*counts, *(array.copy() for array in sent.total)])
        told = [[array.dtype.str, *array.shape] for array in changed]
        layout = [["validation", told[:1]], ["test", told[1:2]], ["total", told[2:]]]
        parts = (part for array in changed for part in _padded(array))
        return stating(layout=layout, arrays=b"".join(parts))(reply)

    return tamper


def filled(value: float) -> Tamper:
    def change(arrays: list[np.ndarray]) -> list[np.ndarray]:
        arrays[2].flat[5] = value
        return arrays

    return sending(change)


def raising(error: Exception) -> Tamper:
    def tamper(reply: Message) -> RecordDict:
        raise error

    return tamper


def laid_out(kernel: list[object]) -> Tamper:
    """Change what the kernel's bytes claim to be."""

    def tamper(reply: Message) -> RecordDict:
        validation, test, (name, (_, bias)) = head_of(reply)["layout"]
        return stating(layout=[validation, test, [name, [kernel, bias]]])(reply)

    return tamper


def cut(reply: Message) -> RecordDict:
    return stating(arrays=bytes(reply.content.config_records["head"]["arrays"])[:-8])(reply)  # type: ignore[arg-type]


def lengthened(reply: Message) -> RecordDict:
    return stating(arrays=bytes(reply.content.config_records["head"]["arrays"]) + bytes(8))(reply)  # type: ignore[arg-type]


def as_flower_would(reply: Message) -> RecordDict:
    head = dict(reply.content.config_records["head"])
    del head["arrays"]
    arrays = ArrayRecord({"0": Array(np.zeros((256, 3), np.float32))})
    return RecordDict({"head": ConfigRecord(head), "arrays": arrays})


def refusal(code: str, text: str) -> RecordDict:
    """Refuse in words that no honest site can send."""
    head = dict(pack(SiteError("tired", "")).config_records["head"])
    return RecordDict({"head": ConfigRecord({**head, "said": json.dumps({"code": code, "text": text})})})


def contradict(arrays: list[np.ndarray]) -> list[np.ndarray]:
    arrays[0][0, 2] += 100  # more right answers than images
    return arrays


def invent(arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [arrays[0] + 500_000_000, *arrays[1:]]  # 1.5e9 in three classes


BAD_REPLIES: dict[str, tuple[Tamper, str]] = {
    "exception in the ClientApp": (raising(RuntimeError("boom")), "raised an exception"),
    "process exit in the ClientApp": (raising(SystemExit(3)), "its ClientApp process died"),  # type: ignore[arg-type]
    "refusal": (lambda _: pack(SiteError("tired", "no more today")), "tired: no more today"),
    "a refusal of 3 MB, with escape codes, as a formula": (
        lambda _: refusal(
            '=HYPERLINK("//evil")' + 150_000 * "\x1b[2J\x1b[8m field larger\n", "no more today"
        ),
        "a refusal whose code is not of 1 to 40",
    ),
    "a refusal that explains itself in 3 MB": (
        lambda _: refusal("tired", 3 * 10**6 * "x"),
        "a text of 3,000,000 characters, expected at most 1,000",
    ),
    "a refusal that hides a line of the terminal": (
        lambda _: refusal("tired", "ok\x1b[1A\x1b[2K"),
        r"the text 'ok\x1b[1A\x1b[2K', expected characters that print",
    ),
    "no message": (lambda _: None, "raised an exception"),
    "empty message": (lambda _: RecordDict(), "incomplete or malformed Update"),
    "missing count": (stating(examples=None), "sent the keys"),
    "extra key": (stating(patient="Jane Doe"), "sent the keys"),
    "extra record": (
        lambda reply: RecordDict({**reply.content, "more": ConfigRecord({"a": 1})}),
        "sent the records ['more']",
    ),
    "another kind": (stating(kind="Scores"), "sent 'Scores', expected Update"),
    "another protocol version": (stating(version=1), "speaks version 1"),
    "another round": (lambda reply: stating(round=head_of(reply)["round"] - 1)(reply), "answered round"),
    "another backbone": (stating(fingerprint="0" * 64), "used backbone 0000"),
    "another class list": (
        stating(classes=classes_digest(("red", "green", "blue"))),
        "another list of class names",
    ),
    "count of zero": (stating(examples=0), "reported 0 training images"),
    "negative count": (stating(examples=-5), "reported -5 training images"),
    "count above that at joining": (stating(examples=100), "reported 100 training images, and "),
    "count that would own the mean": (stating(examples=2**53 - 1), "training images, and "),
    "count that is no number": (stating(examples="many"), "incomplete or malformed"),
    "loss that is no number": (stating(validation=float("nan")), "sent a loss of nan"),
    "negative loss": (stating(test=-1.0), "sent a loss of -1.0"),
    "loss that no image has": (stating(validation=1e9), "expected at most 27.6 an image"),
    "invented right answers": (sending(invent), "validation images of a class, and "),
    "counts that contradict": (sending(contradict), "counts that contradict each other"),
    "NaN": (filled(np.nan), "NaN or infinite"),
    "infinity": (filled(-np.inf), "NaN or infinite"),
    "norm above the bound": (filled(1e6), "above --max-update-norm 1000"),
    "float64": (sending(lambda a: [*a[:2], a[2].astype(np.float64), a[3]]), "sent arrays"),
    "shape that would broadcast": (sending(lambda a: [*a[:2], a[2][:, :1], a[3]]), "sent arrays"),
    "transposed": (sending(lambda a: [*a[:2], np.ascontiguousarray(a[2].T), a[3]]), "sent arrays"),
    "arrays in another order": (sending(lambda a: [*a[:2], a[3], a[2]]), "sent arrays"),
    "no arrays": (sending(lambda a: a[:2]), "sent arrays []"),
    "one array too many": (sending(lambda a: [*a, a[3]]), "sent arrays"),
    "truncated arrays": (cut, "incomplete or malformed"),
    "bytes that no array has": (lengthened, "incomplete or malformed"),
    "pickled objects": (laid_out(["|O", 96, 3]), "incomplete or malformed"),
    "Flower's own arrays": (as_flower_would, "sent the records ['arrays']"),
    "negative shape": (laid_out(["<f4", -1, 3]), "incomplete or malformed"),
    "shape beyond all memory": (laid_out(["<f4", 2**40, 2**20]), "incomplete or malformed"),
}


class World:
    """Sites with real images, and runs over them."""

    def __init__(self, root: Path, data: dict[str, Path]) -> None:
        self.root, self.data = root, data

    def run(
        self, out: str, tamper: Tamper | None = None, *,
        who: Iterable[str] = ("mallory",), sites: Iterable[str] = (*HONEST, "mallory"),
        kinds: Iterable[str] = ("train",),
        grid_fault: Callable[[list[Message]], list[Message]] | None = None, **settings: object,
    ) -> Path:  # fmt: skip
        """Run it; ``tamper`` changes the replies of ``who`` of these kinds; others fail."""
        names, bad = sorted(sites), set(who)
        config = RunConfig(
            **{
                "sites": len(names), "rounds": 5, "out": str(self.root / out), "max_examples": 1000,
                "max_update_norm": 1000.0, **settings,
            }
        )  # fmt: skip
        places = [
            SimulatedSite(
                name, {"data": str(self.data[name]), "state": str(self.root / out / name), "name": name}
            )
            for name in names
        ]

        def app(message: Message, context: Context) -> Message | None:
            reply = client_app(message, context)
            if (
                tamper is None
                or context.node_config["name"] not in bad
                or message.metadata.message_type == "query" not in kinds
            ):
                return reply
            if message.metadata.message_type not in kinds:
                if len(bad) > 1:
                    return reply
                raise RuntimeError("mallory does nothing useful")
            changed = tamper(reply)
            return Message(changed, reply_to=message) if isinstance(changed, RecordDict) else changed

        server = make_app()

        def faulty(grid: InProcessGrid, context: Context) -> None:
            if grid_fault is not None:
                inner = grid.send_and_receive
                grid.send_and_receive = lambda *a, **k: grid_fault(list(inner(*a, **k)))  # type: ignore[method-assign]
            server(grid, context)

        run_in_process(faulty, app, places, config.to_flat(), 2)  # type: ignore[arg-type]
        return self.root / out


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root, data = tmp_path_factory.mktemp("faults"), {}
    for k, name in enumerate((*HONEST, "mallory")):
        for c, (label, colour) in enumerate(COLOURS.items()):
            folder = root / "images" / name / label
            folder.mkdir(parents=True)
            for i in range(10 + 3 * k):
                picture(colour, 1000 * k + 100 * c + i).save(folder / f"{i}.png")
        data[name] = root / "images" / name
    backbone, config = load_backbone(BUNDLED), RunConfig()
    for folder in data.values():  # here, not within a round whose time is short
        extract(open_store(backbone, config.store), backbone, read_source(folder).images)
    return World(root, data)


@pytest.fixture(scope="module")
def without_mallory(world: World) -> dict[str, bytes]:
    return heads(world.run("without", sites=HONEST))


ADAPTIVE = {"strategy": "fedadam", "fraction": 0.5, "server_learning_rate": 0.1}


@pytest.fixture(scope="module")
def undisturbed(world: World) -> dict[str, bytes]:
    return heads(world.run("undisturbed", **ADAPTIVE))


def heads(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("head.npz", "last-head.npz")}


def told(folder: Path, site: str = "mallory") -> list[str]:
    """What ``sites.csv`` says of a site, round by round."""
    with (folder / "sites.csv").open() as file:
        return [row["status"] for row in csv.DictReader(file) if row["site"] == site]


def test_a_bad_reply_leaves_the_head_of_a_run_without_that_site(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, one a round."""
    faults, rounds = list(BAD_REPLIES), len(BAD_REPLIES)
    monkeypatch.setattr("fedtransfer.server.sites.cohort.FAILURES", rounds + 1)  # she is never set aside

    def tamper(reply: Message) -> RecordDict | Message | None:
        return BAD_REPLIES[faults[head_of(reply)["round"] - 1]][0](reply)

    folder = world.run("all-faults", tamper, rounds=rounds)
    status = dict(zip(faults, told(folder), strict=False))
    assert {
        fault: status[fault] for fault, (_, words) in BAD_REPLIES.items() if words not in status[fault]
    } == {}
    assert heads(folder) == heads(world.run("no-faults", sites=HONEST, rounds=rounds))
    assert json.loads((folder / "summary.json").read_text())["sites_left_out"]["mallory"]["times"] >= rounds


def test_counts_of_classes_whose_sum_wraps_do_not_reach_a_one_shot_head(world: World) -> None:
    """In 64 bits 2^63 - 1 twice and n + 2 add up to n."""

    def wrap(reply: Message) -> RecordDict:
        sums = unpack(reply.content, Sums)
        largest = np.iinfo(np.int64).max
        images = np.array([largest, largest, sums.examples + 2])
        assert images.sum() == sums.examples
        return pack(replace(sums, arrays=(sums.arrays[0], images)))

    settings = {"strategy": "fedncm", "max_update_norm": 0.0}
    folder = world.run("wrapped", wrap, kinds=["train.gather"], **settings)
    assert "do not add up" in told(folder)[0]
    assert heads(folder) == heads(world.run("unwrapped", sites=HONEST, **settings))


def test_a_site_that_reports_too_many_images_at_joining_takes_no_part(
    world: World, without_mallory, caplog: pytest.LogCaptureFixture
) -> None:
    def boast(reply: Message) -> RecordDict:
        description = unpack(reply.content, Description)
        return pack(replace(description, images={**description.images, "red": (1001, 0, 0)}))

    assert heads(world.run("boast", boast, kinds=["query"])) == without_mallory
    assert "mallory takes no part in the run: reported 1" in caplog.text


def test_without_a_setting_too_the_norm_of_an_update_is_bounded(world: World, without_mallory) -> None:
    """By the others' norms; the honest ones are let in, so the head is that of a run without it."""
    folder = world.run("outlier", filled(1e5), max_update_norm=0.0)
    assert heads(folder) == without_mallory
    assert all(
        "above" in status and "which is 10 times the median of a round" in status
        for status in told(folder)[:3]
    )


@pytest.mark.parametrize(("worst", "chosen"), [(4.0, False), (1e9, True)])
def test_a_liar_does_not_choose_the_head(
    world: World, monkeypatch: pytest.MonkeyPatch, worst: float, chosen: bool
) -> None:
    """She praises the first head alone, which has learnt nothing: without a bound it wins."""
    monkeypatch.setattr("fedtransfer.server.rounds.choice.WORST", worst)

    def praise_the_first(reply: Message) -> RecordDict:
        scores = unpack(reply.content, Update, Scores)
        loss = 0.0 if scores.round == 1 else 27.0 * scores.validation.total
        return stating(validation=loss)(reply)

    folder = world.run(f"liar-{worst}", praise_the_first, kinds=["train", "evaluate"])
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["best_round"] == 1) == chosen


def test_any_mix_of_bad_replies_is_as_good_as_none(world: World) -> None:
    """Up to two of four sites misbehave in each round, each its own way: as if they were silent.

    By this seed some are set aside after three such rounds, and no round lacks its quorum.
    """
    rng, rounds = np.random.default_rng(7), 30
    when = [
        (int(node), round)
        for round in range(1, rounds + 1)
        for node in rng.choice([1, 2, 3, 4], rng.integers(0, 3), replace=False)
    ]
    plan = dict(zip(when, np.random.default_rng(1).choice(list(BAD_REPLIES), len(when)), strict=True))

    def mixed(reply: Message) -> RecordDict | Message | None:
        key = reply.metadata.src_node_id, head_of(reply)["round"]
        return BAD_REPLIES[plan[key]][0](reply) if key in plan else reply

    def silent(reply: Message) -> Message:
        if (reply.metadata.src_node_id, head_of(reply)["round"]) in plan:
            raise RuntimeError("no answer")
        return reply

    everyone = (*HONEST, "mallory")
    folders = [world.run(tamper.__name__, tamper, who=everyone, rounds=rounds) for tamper in (mixed, silent)]
    assert heads(folders[0]) == heads(folders[1])
    rows = [list(csv.DictReader((folder / "sites.csv").open())) for folder in folders]
    present = [[(row["round"], row["site"]) for row in table if row["status"] == "ok"] for table in rows]
    assert present[0] == present[1]
    assert any(row["status"].startswith("set aside") for row in rows[0])


def test_a_site_that_answers_twice_is_left_out_and_then_set_aside(world: World, without_mallory) -> None:
    def twice(replies: list[Message]) -> list[Message]:
        if len(replies) == 4 and replies[3].has_content() and array_bytes(replies[3].content):
            return [*replies, replies[3]]
        return replies

    folder = world.run("twice", lambda reply: reply, grid_fault=twice)
    assert heads(folder) == without_mallory
    status = told(folder)
    assert status[:3] == ["answered 2 times, expected once"] * 3
    assert status[3:5] == ["set aside until round 9"] * 2, "after three failures in a row she is not drawn"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["sites_left_out"]["mallory"]["times"] >= 3
    assert "mallory" in summary["sites_without_result"]


def test_a_reply_of_a_node_that_was_not_asked_is_dropped(world: World, without_mallory) -> None:
    def foreign(replies: list[Message]) -> list[Message]:
        copy = Message(replies[0].content, dst_node_id=1, message_type="train")
        copy.metadata.__dict__["_src_node_id"] = 12345
        return [*replies, copy]

    assert heads(world.run("foreign", sites=HONEST, grid_fault=foreign)) == without_mallory


def test_a_site_that_hangs_or_is_late_is_left_out(world: World, without_mallory) -> None:
    """She hangs in round 1, and what she answers to round 2 comes in round 3."""
    late, never = threading.Event(), threading.Event()

    def slow(reply: Message) -> Message:
        match head_of(reply)["round"]:
            case 1:
                never.wait()
            case 2:
                late.wait()
            case _:
                late.set()
                raise RuntimeError("too much to do")
        return reply

    try:
        folder = world.run("slow", slow, round_timeout=patient(2.5))
    finally:
        never.set()
    assert heads(folder) == without_mallory
    assert told(folder)[:2] == ["did not answer in time"] * 2


def test_only_bad_replies_change_nothing_and_stop_the_run_which_is_then_resumed(
    world: World, undisturbed
) -> None:
    everyone = (*HONEST, "mallory")

    def from_round_three(reply: Message) -> RecordDict | Message:
        return filled(np.nan)(reply) if head_of(reply)["round"] >= 3 else reply

    with pytest.raises(
        UserError, match=r"round 3: 0 of 2 .* 1 are needed; tried 2 times(.|\n)* resume the run"
    ):
        world.run("all-bad", from_round_three, who=everyone, round_retries=1, **ADAPTIVE)
    folder = world.root / "all-bad"
    with (folder / "history.csv").open() as file:
        rows = [(row["round"], row["attempt"], row["status"][:6]) for row in csv.DictReader(file)]
    assert rows == [("1", "1", "ok"), ("2", "1", "ok"), ("3", "1", "0 of 2"), ("3", "2", "0 of 2")]
    assert not (folder / "summary.json").exists(), "no half result"
    world.run("all-bad", resume=True, **ADAPTIVE)
    assert heads(folder) == undisturbed


def test_an_attempt_that_fails_once_is_made_again(world: World) -> None:
    """The new attempt draws another cohort: no head to compare with, so the history is checked."""
    failures = iter([True])

    def once(reply: Message) -> RecordDict | Message:
        return filled(np.nan)(reply) if head_of(reply)["round"] == 2 and next(failures, False) else reply

    folder = world.run("once", once, who=(*HONEST, "mallory"), cohort_size=1)
    with (folder / "history.csv").open() as file:
        rows = [(row["round"], row["attempt"], row["status"][:6]) for row in csv.DictReader(file)]
    assert rows[1] == ("2", "1", "0 of 1")
    assert rows[2] == ("2", "2", "ok")


def test_a_head_that_would_overflow_is_not_taken(world: World) -> None:
    with pytest.raises(UserError, match=r"round 1: the head would overflow; .* --max-update-norm"):
        world.run(
            "overflow", filled(3e38), who=HONEST, sites=HONEST,
            max_update_norm=0.0, server_learning_rate=1e6, round_retries=0,
        )  # fmt: skip


def test_a_full_disk_stops_the_run_with_its_checkpoints_whole(
    world: World, undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def full(old: Path, new: Path) -> None:
        if new.name.startswith("round-000004"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(old, new)

    with monkeypatch.context() as patch:
        patch.setattr("fedtransfer.common.support.files.os.replace", full)
        with pytest.raises(UserError, match=r"round-000004.*No space left on device; .* round-000003"):
            world.run("disk", **ADAPTIVE)
    world.run("disk", resume=True, **ADAPTIVE)
    assert heads(world.root / "disk") == undisturbed


def test_waiting_for_sites_is_bounded(world: World) -> None:
    class Alone(InProcessGrid):
        def get_nodes(self) -> list:
            return list(super().get_nodes())[:1]

    config = RunConfig(sites=4, join_timeout=0.5, out=str(world.root / "alone"))
    grid: Grid = Alone(client_app, [SimulatedSite("anna", {})], config.to_flat(), 1)
    context = Context(1, 1, {}, RecordDict(), config.to_flat())
    with pytest.raises(
        UserError, match=r"1 of 4 sites connected within 0.5 s, 2 are needed. Connected: anna"
    ):
        make_app()(grid, context)
