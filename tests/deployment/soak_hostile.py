"""A hostile site of the soak: it answers each request in a way drawn at random."""

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from deployment.federation import SiteParty
from deployment.hostile_site import HostileSite, Parcel, hostile, part
from flwr.app import Message
from flwr.proto.message_pb2 import ObjectTree

from fedtransfer.common.errors import SiteError
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.protocol import QUERY, Confusion, Scores, Update

SLOWEST = 20.0  # seconds
PIECES, PIECE_BYTES = 8, 5 * 2**20  # of a huge answer
PAUSE_SECONDS = 1.0  # after an error of the coordinator
Act = Callable[["Attacker", Message], None]


class Attacker:
    """Answers requests until it is ended."""

    def __init__(self, site: HostileSite, seed: int) -> None:
        self.site, self.rng = site, random.Random(seed)
        self.end = threading.Event()
        self._thread = threading.Thread(target=self._answer_all, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer nothing more."""
        self.end.set()
        self._thread.join(60)

    def _answer_all(self) -> None:
        while not self.end.is_set():
            try:
                if (message := self.site.pull()) is None:
                    self.end.wait(0.2)
                elif message.metadata.message_type == QUERY:  # else it would take no part
                    honest(self, message)
                else:
                    self.rng.choice(ACTS)(self, message)
            except Exception:  # whatever the coordinator makes of it: an attacker goes on
                self.end.wait(PAUSE_SECONDS)


def honest(attacker: Attacker, message: Message) -> None:
    """Answer as an honest site would."""
    attacker.site.push(Parcel.of(attacker.site.honest(message)))


def refuse(attacker: Attacker, message: Message) -> None:
    """Refuse, in words that would do harm in a terminal or a spreadsheet."""
    text = '\x1b[2J=HYPERLINK("http://example.org")\n' + "x" * attacker.rng.randrange(100_000)
    attacker.site.push(Parcel.of(Message(wire.pack(SiteError("=1+1", text)), reply_to=message)))


def garble(attacker: Attacker, message: Message) -> None:
    """Answer with an object that is no message, or no object."""
    kind, body = attacker.rng.choice(
        [("ConfigRecord", b"\x0a\x03abc"), ("Message", b"\xff" * 4), ("Message", b""), ("Nothing", b"x")]
    )
    name, content = part(kind, [], body)
    parcel = Parcel.of(attacker.site.honest(message))
    attacker.site.push(parcel.replace({name: content}, ObjectTree(object_id=name)))


def forge(attacker: Attacker, message: Message) -> None:
    """Answer in the name of the coordinator, or of a node that there may be."""
    parcel = Parcel.of(attacker.site.honest(message))
    parcel.envelope.metadata.src_node_id = attacker.rng.choice([1, 2**62 + 1])
    attacker.site.push(parcel)


def flood(attacker: Attacker, message: Message) -> None:
    """Answer with 40 MB where 4 KB are expected."""
    parts = dict(part("ConfigRecord", [], os.urandom(PIECE_BYTES)) for _ in range(PIECES))
    root, content = part("Message", list(parts), b"")
    tree = ObjectTree(object_id=root, children=[ObjectTree(object_id=name) for name in parts])
    parcel = Parcel.of(attacker.site.honest(message))
    attacker.site.push(parcel.replace({**parts, root: content}, tree))


def stall(attacker: Attacker, message: Message) -> None:
    """Announce an answer, and send nothing of it."""
    attacker.site.announce(Parcel.of(attacker.site.honest(message)))


def repeat(attacker: Attacker, message: Message) -> None:
    """Answer as an honest site would, and refuse as well."""
    honest(attacker, message)
    refuse(attacker, message)


def confuse(attacker: Attacker, message: Message) -> None:
    """Answer another round."""
    answer = wire.unpack(attacker.site.honest(message).content, Update, Scores, Confusion)
    other = replace(answer, round=answer.round + attacker.rng.choice([-1, 1, 1000]))
    attacker.site.push(Parcel.of(Message(wire.pack(other), reply_to=message)))


def dawdle(attacker: Attacker, message: Message) -> None:
    """Answer as an honest site would, perhaps too late."""
    attacker.end.wait(attacker.rng.uniform(0, SLOWEST))
    honest(attacker, message)


# Often enough honest to be asked again: a site that fails three times is not asked for a while.
ACTS: list[Act] = [honest, honest, honest, refuse, garble, forge, flood, stall, repeat, confuse, dawdle]


@contextmanager
def attack(site: SiteParty, seed: int) -> Iterator[None]:
    """Have a hostile site take part as an enrolled one that is not started."""
    with hostile(site) as hostile_site:
        attacker = Attacker(hostile_site, seed)
        try:
            yield
        finally:
            attacker.close()
