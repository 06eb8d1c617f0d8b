"""The messages of secure aggregation, in addition to the requests themselves, stage by stage.

==========  ===================================================  ==================================================
stage       the server sends                                     a site answers
==========  ===================================================  ==================================================
keys        ``Invitation``                                       ``PublicKeys``, two, made for this session
shares      ``Peers``: the keys of all sites                     ``Boxes``: shares of its secrets, sealed for others
answer      the request, with the boxes for this site            ``Masked``: its answer under masks
survivors   ``Survivors``: sites whose answers arrived           ``Consent``, its signature on that list
unmask      ``Unmasking``: a quorum of signatures                ``Shares``: of the pads of those in the list, of the
                                                                 keys of those who dropped out
==========  ===================================================  ==================================================
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.masks.session import Session
from fedtransfer.common.wire.protocol import Answer

KEYS, PEERS, SURVIVORS, UNMASK = "query.keys", "query.peers", "query.survivors", "query.unmask"  # Flower message types
KINDS = (KEYS, PEERS, SURVIVORS, UNMASK)


@dataclass(frozen=True)
class Stage:
    """The fields of every message from the server.

    Attributes:
        site: the site's name at the server.
        run, round, kind, nonce: the session.
    """

    site: str
    run: str
    round: int
    kind: str
    nonce: str

    @property
    def session(self) -> Session:
        """The session of the message."""
        return Session(self.run, self.round, self.kind, self.nonce)


@dataclass(frozen=True)
class Invitation(Stage):
    """Asks for fresh keys."""


@dataclass(frozen=True)
class PublicKeys:
    """A site's keys in a session, each 64 hexadecimal digits.

    Attributes:
        mask: for the masks that the site shares with others.
        box: for sealed boxes, which the server passes on.
        signature: of both keys, by the site's enrolled key, in hexadecimal digits; "" in a
            simulation.
    """

    mask: str
    box: str
    signature: str


@dataclass(frozen=True)
class Peers(Stage):
    """Lists all sites of a session with their keys, in name order.

    Attributes:
        names: of the sites, including the recipient.
        masks, boxes, signatures: the ``PublicKeys`` of each site.
        enrolled: the public key under which each site is enrolled, in OpenSSH's form; "" in a
            simulation.
    """

    names: tuple[str, ...]
    masks: tuple[str, ...]
    boxes: tuple[str, ...]
    signatures: tuple[str, ...]
    enrolled: tuple[str, ...]


@dataclass(frozen=True)
class Boxes:
    """Shares of a site's two secrets.

    Attributes:
        sealed: one box for each of its k neighbours, in name order, (k, SEALED) uint8.
    """

    sealed: NDArray[np.uint8]


@dataclass(frozen=True)
class Masked(Answer):
    """A site's answer under masks.

    Attributes:
        vector: the numbers of the answer plus all masks, modulo 2^64, uint64.
    """

    vector: NDArray[np.uint64]


@dataclass(frozen=True)
class Survivors(Stage):
    """Lists the sites whose masked answers arrived.

    Attributes:
        names: of the sites, in name order.
    """

    names: tuple[str, ...]


@dataclass(frozen=True)
class Consent:
    """A site's promise to unmask the sum over exactly these sites, and no other sum.

    Attributes:
        signature: hexadecimal digits; "" in a simulation.
    """

    signature: str


@dataclass(frozen=True)
class Unmasking(Survivors):
    """Asks for the shares that unmask the sum over the survivors.

    Attributes:
        signers: survivors that consented, in name order.
        signatures: of the signers.
    """

    signers: tuple[str, ...]
    signatures: tuple[str, ...]


@dataclass(frozen=True)
class Shares:
    """A share for each neighbour: of its pad's seed if it survived, else of its key.

    Attributes:
        shares: in name order, (number, 32) uint8, big-endian.
    """

    shares: NDArray[np.uint8]
