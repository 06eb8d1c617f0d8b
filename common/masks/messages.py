"""The messages of secure aggregation, in addition to the requests themselves, stage by stage.

=========  ==========================================  =============================================
stage      the server sends                            a site answers
=========  ==========================================  =============================================
keys       ``Invitation``                              ``PublicKeys``, two, made for this session
shares     ``Peers``: the keys of all sites            ``Boxes``: secrets' shares, sealed for others
answer     the request, with the boxes for this site   ``Masked``: its answer under masks
survivors  ``Survivors``: sites whose answers arrived  ``Consent``, its signature on that list
unmask     ``Unmasking``: a quorum of signatures       ``Shares``: of the pads of those in the list,
                                                       of the keys of those who dropped out
=========  ==========================================  =============================================
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.protocol import Answer, Request, Task
from fedtransfer.common.wire.texts import Name, Token

# Flower message types
KEYS, PEERS, SURVIVORS, UNMASK = "query.keys", "query.peers", "query.survivors", "query.unmask"
KINDS = (KEYS, PEERS, SURVIVORS, UNMASK)
_DOMAIN = b"fedtransfer masks 1\0"
# A site may have its own.
_OF_A_SITE = {"backbone", "weights", "feature-statistics", "store", "threads", "strict"}
_OF_THE_SERVER = {
    "data", "public-data", "prepared", "out", "resume", "log-json", "callbacks", "baselines", "models",
    "engine", "ray-address", "client-cpus", "client-gpus", "join-timeout", "round-timeout", "round-retries",
}  # fmt: skip


def common_settings(config: RunConfig) -> str:
    """Return a digest of the settings that all sites of a run share, such as each site's noise.

    It leaves out paths and settings of the machines. Answers name the backbone by its fingerprint.
    """
    alike = {key: value for key, value in config.to_flat().items() if key not in _OF_A_SITE | _OF_THE_SERVER}
    return hashlib.sha256(json.dumps(alike, sort_keys=True).encode()).hexdigest()


def common_part(request: Request, config: RunConfig) -> str:
    """Return a digest of the part of a request, and of the settings, that all sites share.

    Masks follow from this digest, so they cancel only if it is the same at all sites. A server that
    sends one site another head, or makes the other sites add less noise, learns nothing from the
    total.
    """
    alike = replace(request, site="", nonce="", sharers=(), boxes=())
    return common_settings(config) + wire.digest(
        wire.pack(replace(alike, counted=0) if isinstance(alike, Task) else alike)
    )


@dataclass(frozen=True)
class Session:
    """One attempt at a total, with the context bytes that tie its secrets and signatures to it."""

    run: str  # Flower's number for the run
    round: int  # the round in the run
    kind: str  # message type of the request whose answers are masked
    nonce: str  # 16 hexadecimal digits that the server draws for each attempt

    def order(self, masks: Sequence[str], boxes: Sequence[str]) -> bytes:
        """Return the digest that orders the ring, from the keys that all sites sent."""
        return hashlib.sha256(self.context("ring", masks, boxes)).digest()

    def context(self, *parts: object) -> bytes:
        """Return context bytes that are unique to ``parts`` (JSON values) in this session."""
        return _DOMAIN + json.dumps([self.run, self.round, self.kind, self.nonce, *parts]).encode()


@dataclass(frozen=True)
class Stage:
    """The fields of every message from the server."""

    site: Name  # the site's name at the server
    # run, round, kind, nonce: the session.
    run: Token
    round: int
    kind: Token
    nonce: Token

    @property
    def session(self) -> Session:
        """The session of the message."""
        return Session(self.run, self.round, self.kind, self.nonce)


@dataclass(frozen=True)
class Invitation(Stage):
    """Asks for fresh keys."""


@dataclass(frozen=True)
class PublicKeys:
    """A site's keys in a session, each 64 hexadecimal digits."""

    mask: Token  # for the masks that the site shares with others
    box: Token  # for sealed boxes, which the server passes on
    signature: Token  # of both keys, by the site's enrolled key, in hexadecimal digits; "" in a simulation


@dataclass(frozen=True)
class Peers(Stage):
    """Lists all sites of a session with their keys, in name order."""

    names: tuple[Name, ...]  # of the sites, including the recipient
    # masks, boxes, signatures: the ``PublicKeys`` of each site.
    masks: tuple[Token, ...]
    boxes: tuple[Token, ...]
    signatures: tuple[Token, ...]
    # The public key under which each site is enrolled, in OpenSSH's form; "" in a simulation.
    enrolled: tuple[Token, ...]


@dataclass(frozen=True)
class Boxes:
    """Shares of a site's two secrets."""

    sealed: NDArray[np.uint8]  # one box for each of its k neighbours, in name order, (k, SEALED) uint8


@dataclass(frozen=True)
class Masked(Answer):
    """A site's answer under masks."""

    vector: NDArray[np.uint64]  # the numbers of the answer plus all masks, modulo 2^64, uint64


@dataclass(frozen=True)
class Survivors(Stage):
    """Lists the sites whose masked answers arrived."""

    names: tuple[Name, ...]  # of the sites, in name order


@dataclass(frozen=True)
class Consent:
    """A site's promise to unmask the sum over exactly these sites, and no other sum."""

    signature: Token  # hexadecimal digits; "" in a simulation


@dataclass(frozen=True)
class Unmasking(Survivors):
    """Asks for the shares that unmask the sum over the survivors."""

    signers: tuple[Name, ...]  # survivors that consented, in name order
    signatures: tuple[Token, ...]  # of the signers


@dataclass(frozen=True)
class Shares:
    """A share for each neighbour: of its pad's seed if it survived, else of its key."""

    shares: NDArray[np.uint8]  # in name order, (number, 32) uint8, big-endian
