"""One masked exchange, and the bytes by which all that is secret or signed in it belongs to it alone."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.protocol import Request, Task

_DOMAIN = b"fedtransfer masks 1\0"
_OF_A_SITE = {"backbone", "weights", "feature-statistics", "store", "threads", "strict"}  # which may have its own
_OF_THE_SERVER = {
    "data", "public-data", "prepared", "out", "resume", "log-json", "callbacks", "baselines", "models", "engine",
    "ray-address", "client-cpus", "client-gpus", "join-timeout", "round-timeout", "round-retries",
}  # fmt: skip


def common_settings(config: RunConfig) -> str:
    """Return a digest of the settings that all sites of a run have alike: what each does, how much noise it adds.

    Left out are paths, and how machines go about their work. Which backbone it is, answers say by its fingerprint.
    """
    alike = {key: value for key, value in config.to_flat().items() if key not in _OF_A_SITE | _OF_THE_SERVER}
    return hashlib.sha256(json.dumps(alike, sort_keys=True).encode()).hexdigest()


def common_part(request: Request, config: RunConfig) -> str:
    """Return a digest of what all sites of a session are asked alike, and of the settings by which they answer.

    Masks follow from it, so they cancel only if both were the same: a server that sends one site another head, or has all
    others add less noise, learns nothing from the total.
    """
    alike = replace(request, site="", nonce="", sharers=(), boxes=())
    asked = wire.digest(wire.pack(replace(alike, counted=0) if isinstance(alike, Task) else alike))
    return common_settings(config) + asked


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
        return hashlib.sha256(self.context("ring", masks, boxes)).digest()

    def context(self, *parts: object) -> bytes:
        """Return unambiguous bytes for ``parts`` (JSON values) in this session, to bind keys and signatures."""
        return _DOMAIN + json.dumps([self.run, self.round, self.kind, self.nonce, *parts]).encode()
