"""Sites in a session of masks, with the test as their server."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from flwr.app import RecordDict

from fedtransfer.client.masking.masking import Masking
from fedtransfer.client.masking.secrets import Safe, Steps
from fedtransfer.client.node import Node
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.masks import messages
from fedtransfer.common.masks.graph import graph
from fedtransfer.common.masks.messages import Boxes, Masked, PublicKeys, Session
from fedtransfer.common.wire.protocol import TRAIN, Task, Update

WIDTH, CLASSES = 64, 4
NOTHING = Counts.empty(CLASSES)


def masked_config(sites: int, **settings: object) -> RunConfig:
    return RunConfig(
        **{"masks": True, "classes": "declared", "class_names": "a,b,c,d", "sites": sites, **settings}
    )


def update(seed: int) -> Update:
    rng = np.random.default_rng(seed)
    total = (
        rng.normal(size=(WIDTH, CLASSES)).astype(np.float32),
        rng.normal(size=CLASSES).astype(np.float32),
    )
    return Update(1, "f" * 64, "c" * 16, NOTHING, NOTHING, 10 + seed, total)


@dataclass
class Cluster:
    """Sites by name; the methods go through the stages."""

    config: RunConfig
    nodes: dict[str, Node] = field(default_factory=dict)
    session: Session = field(default_factory=lambda: Session("7", 1, TRAIN, "0123456789abcdef"))
    sites: dict[str, Masking] = field(default_factory=dict)
    keys: dict[str, PublicKeys] = field(default_factory=dict)
    boxes: dict[str, Boxes] = field(default_factory=dict)
    vectors: dict[str, Masked] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for i in range(self.config.sites):
            name = f"site-{i:03}"
            node = self.nodes.get(name, Node("", Path()))
            self.sites[name] = Masking(Safe(RecordDict(), Steps()), node, self.config)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.sites)

    @property
    def graph(self):
        return graph(len(self.sites), self.config)

    def around(self, site: str) -> tuple[str, ...]:
        peers = self.peers(site)
        return self.graph.ring(self.names, self.session.order(peers.masks, peers.boxes)).around(site)

    def stage(self, site: str) -> dict:
        return {"site": site, **vars(self.session)}

    def invite(self) -> None:
        self.keys = {
            site: self.sites[site].answer(messages.Invitation(**self.stage(site))) for site in self.names
        }

    def peers(self, site: str, **changes: object) -> messages.Peers:
        told = {
            "names": self.names,
            "masks": tuple(self.keys[name].mask for name in self.names),
            "boxes": tuple(self.keys[name].box for name in self.names),
            "signatures": tuple(self.keys[name].signature for name in self.names),
            "enrolled": tuple("" for _ in self.names),
        }
        return messages.Peers(**self.stage(site), **{**told, **changes})

    def share(self) -> None:
        self.invite()
        self.boxes = {site: self.sites[site].answer(self.peers(site)) for site in self.names}

    def task(self, site: str, **changes: object) -> Task:
        sealed = [self.boxes[sender].sealed[self.around(sender).index(site)] for sender in self.around(site)]
        told = {"nonce": self.session.nonce, "sharers": self.names, "boxes": (np.stack(sealed),)}
        return Task(
            **{"site": site, "round": 1, "classes": ("a", "b", "c", "d"), "head": (), **told, **changes}
        )

    def task_of_finish(self, site: str) -> Task:
        return Task(site, 1, ("a", "b", "c", "d"), ())

    def mask(self, sites: Iterable[str] | None = None) -> None:
        self.share()
        for i, site in enumerate(sites or self.names):
            self.vectors[site] = self.sites[site].mask(self.task(site), TRAIN, lambda i=i: update(i))

    def survivors(self, site: str, names: tuple[str, ...] | None = None) -> messages.Survivors:
        return messages.Survivors(**self.stage(site), names=self.names if names is None else names)

    def agree(self, names: tuple[str, ...] | None = None) -> dict[str, str]:
        self.mask()
        return {
            site: self.sites[site].answer(self.survivors(site, names)).signature
            for site in names or self.names
        }

    def unmasking(self, site: str, signatures: dict[str, str], names: tuple[str, ...] | None = None):
        return messages.Unmasking(
            **self.stage(site), names=self.names if names is None else names,
            signers=tuple(signatures), signatures=tuple(signatures.values()),
        )  # fmt: skip
