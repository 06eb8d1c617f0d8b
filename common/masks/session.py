"""A masked exchange, and the context bytes that tie its secrets and signatures to it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.protocol import Request, Task

_DOMAIN = b"fedtransfer masks 1\0"
_OF_A_SITE = {"backbone", "weights", "feature-statistics", "store", "threads", "strict"}  # a site may have its own
_OF_THE_SERVER = {
    "data", "public-data", "prepared", "out", "resume", "log-json", "callbacks", "baselines", "models", "engine",
    "ray-address", "client-cpus", "client-gpus", "join-timeout", "round-timeout", "round-retries",
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
    """One attempt at a total.

    Attributes:
        run: Flower's number for the run.
        round: the round in the run.
        kind: message type of the request whose answers are masked.
        nonce: 16 hexadecimal digits that the server draws for each attempt.
    """

    run: str
    round: int
    kind: str
    nonce: str

    def order(self, masks: Sequence[str], boxes: Sequence[str]) -> bytes:
        """Return the digest that orders the ring, from the keys that all sites sent."""
        return hashlib.sha256(self.context("ring", masks, boxes)).digest()

    def context(self, *parts: object) -> bytes:
        """Return context bytes that are unique to ``parts`` (JSON values) in this session."""
        return _DOMAIN + json.dumps([self.run, self.round, self.kind, self.nonce, *parts]).encode()
