"""What travels for secure aggregation beside the requests themselves, stage by stage.

==========  ===================================================  ==================================================
stage       the server sends                                     a site answers
==========  ===================================================  ==================================================
keys        ``Invitation``                                       ``PublicKeys``, two, made for this session
shares      ``Peers``: everybody's keys                          ``Boxes``: shares of its secrets, sealed for others
answer      the request, with the boxes for this site            ``Masked``: its answer under masks
survivors   ``Survivors``: whose answers came                    ``Consent``, its signature on that list
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
    """What the server says in every stage.

    Attributes:
        site: the name by which the server knows the site.
        run, round, kind, nonce: the session.
    """

    site: str
    run: str
    round: int
    kind: str
    nonce: str

    @property
    def session(self) -> Session:
        """The session that it belongs to."""
        return Session(self.run, self.round, self.kind, self.nonce)


@dataclass(frozen=True)
class Invitation(Stage):
    """Asks for fresh keys."""


@dataclass(frozen=True)
class PublicKeys:
    """A site's keys of a session, each 64 hexadecimal digits.

    Attributes:
        mask: for the masks that it has in common with others.
        box: for what the server carries sealed.
        signature: on both, by the site's enrolled key, in hexadecimal digits; "" in a simulation.
    """

    mask: str
    box: str
    signature: str


@dataclass(frozen=True)
class Peers(Stage):
    """Tells all sites of a session with their keys, in name order.

    Attributes:
        names: of the sites, this one among them.
        masks, boxes, signatures: as each sent them.
        enrolled: the public key under which each is enrolled, in OpenSSH's form; "" in a simulation.
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
        vector: its numbers and all masks, modulo 2^64, uint64.
    """

    vector: NDArray[np.uint64]


@dataclass(frozen=True)
class Survivors(Stage):
    """Says whose masked answers came.

    Attributes:
        names: in name order.
    """

    names: tuple[str, ...]


@dataclass(frozen=True)
class Consent:
    """A site's word that it will unmask the sum over just these sites, and no other.

    Attributes:
        signature: hexadecimal digits; "" in a simulation.
    """

    signature: str


@dataclass(frozen=True)
class Unmasking(Survivors):
    """Asks for the shares by which the sum over the survivors is unmasked.

    Attributes:
        signers: survivors who consented, in name order.
        signatures: theirs.
    """

    signers: tuple[str, ...]
    signatures: tuple[str, ...]


@dataclass(frozen=True)
class Shares:
    """For each neighbour whose boxes this site got: the share of its pad's seed if it survived, else of its key.

    Attributes:
        shares: in name order, (number, 32) uint8, big-endian.
    """

    shares: NDArray[np.uint8]
