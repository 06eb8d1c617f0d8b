"""Answers of a site that attacks Flower's grid: none ends a round, holds it, or is another site's.

The heads are bit for bit those of a run without that site.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from deployment.federation import CoordinatorParty, SiteParty, arrays, start_all, stopping
from deployment.hostile_site import HostileSite, Parcel, hostile, part
from flwr.app import Message, RecordDict
from flwr.proto.message_pb2 import ObjectTree
from pictures import COLOURS, class_folders
from waiting import patient

from fedtransfer.common.wire.protocol import Description
from fedtransfer.common.wire.records import pack
from fedtransfer.server.deployment.coordinator import Coordinator
from fedtransfer.server.deployment.superlink import connect

pytestmark = pytest.mark.full

LIMIT = patient(20)  # seconds that a round may take
HONEST = ("anna", "bert")


@dataclass
class Attack:
    """Mallory's answers: she joins, and then attacks in another way in each round."""

    attacker: HostileSite
    anna: int = 0  # her node's number
    rounds: list[str] = field(default_factory=list)

    def __call__(self, message: Message) -> bool:
        if message.metadata.message_type == "query":
            description = Description(dict.fromkeys(COLOURS, (5, 2, 2)), 0)
            self.attacker.push(Parcel.of(Message(pack(description), reply_to=message)))
            return True
        attacks = {"train": [self.no_message, self.stalled, self.in_the_name_of_anna]}
        after = attacks.get(message.metadata.message_type, [])[len(self.rounds) :]
        attack = after[0] if after else self.no_message
        if message.metadata.message_type == "train":
            self.rounds.append(attack.__name__)
        attack(Message(RecordDict(), reply_to=message))
        return True

    def no_message(self, reply: Message) -> None:
        name, content = part("ConfigRecord", [], b"\x0a\x03abc")
        self.attacker.push(Parcel.of(reply).replace({name: content}, ObjectTree(object_id=name)))

    def stalled(self, reply: Message) -> None:
        self.attacker.announce(Parcel.of(reply))

    def in_the_name_of_anna(self, reply: Message) -> None:
        """Inside, the reply has anna's number; the envelope has that of the key, or is refused."""
        source = reply.metadata.src_node_id
        reply.metadata.__dict__["_src_node_id"] = self.anna
        parcel = Parcel.of(reply)
        parcel.envelope.metadata.src_node_id = source
        self.attacker.push(parcel)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """Run without mallory, and with her; return the folders of the attacked run and the other."""
    root = tmp_path_factory.mktemp("hostile")
    coordinator = CoordinatorParty(root / "coordinator")
    images = {name: class_folders(root / "images" / name, k) for k, name in enumerate((*HONEST, "mallory"))}
    sites = {name: SiteParty(root / name, name, coordinator, images[name]) for name in images}
    honest = [sites[name] for name in HONEST]
    options = ("--rounds", "3", "--no-models")
    with stopping(*honest, coordinator):
        start_all(coordinator, *honest)
        undisturbed = coordinator.run(*options, "--sites", "2", name="undisturbed")  # features are made here
        with hostile(sites["mallory"]) as attacker:
            attack = Attack(attacker)
            with connect(Coordinator.open(coordinator.folder)) as superlink:
                attack.anna = next(node.node_id for node in superlink.nodes() if node.name == "anna")
            attacker.answer_all(attack)
            attacked = coordinator.run(*options, "--round-timeout", str(LIMIT), name="attacked")
            yield attacked, undisturbed


def rows(folder: Path, table: str) -> list[dict[str, str]]:
    with (folder / f"{table}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_heads_are_those_of_a_run_without_the_attacker(runs: tuple[Path, Path]) -> None:
    for file in ("head.npz", "last-head.npz"):
        for attacked, undisturbed in zip(*(arrays(folder / file) for folder in runs), strict=True):
            assert np.array_equal(attacked, undisturbed), file


def test_the_attacker_is_named_in_each_round_and_nobody_else(runs: tuple[Path, Path]) -> None:
    reasons = {row["site"]: [] for row in rows(runs[0], "sites")}
    for row in rows(runs[0], "sites"):
        if row["round"] in "123":
            reasons[row["site"]].append(row["status"])
    assert {site: set(reasons[site]) for site in HONEST} == {site: {"ok"} for site in HONEST}
    no_message, stalled, foreign = reasons["mallory"]
    assert no_message.startswith("sent a reply that is no message (")
    assert stalled.startswith("announced a reply, of which only a part arrived in time (0 of ")
    assert foreign != "ok"


def test_a_stalled_answer_holds_its_round_for_the_timeout_and_no_longer(runs: tuple[Path, Path]) -> None:
    seconds = [float(row["seconds"]) for row in rows(runs[0], "history") if row["phase"] == "train"]
    assert len(seconds) == 3
    assert LIMIT <= seconds[1] < LIMIT + patient(5)
    assert max(seconds[0], seconds[2]) < LIMIT, "what is no message is not waited for"
