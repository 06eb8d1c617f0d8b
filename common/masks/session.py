"""One masked exchange, and the bytes by which all that is secret or signed in it belongs to it alone."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from common import wire
from common.protocol import Request, Task

_DOMAIN = b"fedtransfer masks 1\0"


def common_part(request: Request) -> str:
    """Return a digest of what all sites of a session are asked alike.

    Masks follow from it, so they cancel only if all were asked the same: a server that sends one site another head learns
    nothing from the total.
    """
    alike = replace(request, site="", nonce="", sharers=(), boxes=())
    return wire.digest(wire.pack(replace(alike, counted=0) if isinstance(alike, Task) else alike))


@dataclass(frozen=True)
class Session:
    """One attempt at one total.

    Attributes:
        run: Flower's number for the run.
        round: of the run.
        kind: message type of the request that is answered under masks.
        nonce: 16 hexadecimal digits that the server draws for each attempt.
    """

    run: str
    round: int
    kind: str
    nonce: str

    def order(self, masks: Sequence[str], boxes: Sequence[str]) -> bytes:
        """Return what the order of the ring follows from: all sites' keys, as they were sent."""
        return hashlib.sha256(self.bound("ring", masks, boxes)).digest()

    def bound(self, *parts: object) -> bytes:
        """Return bytes that stand for ``parts`` (of JSON) in this session, and for nothing else."""
        return _DOMAIN + json.dumps([self.run, self.round, self.kind, self.nonce, *parts]).encode()
