"""One exchange of messages with some sites, by name. Every wait is bounded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid

from common import protocol


@dataclass(frozen=True)
class Replies:
    """What came back.

    Attributes:
        by_site: every site that was asked → its replies; a sound site sends one.
        bytes_down, bytes_up: what a message to a site carries, and one from a site in the mean, in bytes.
    """

    by_site: dict[str, list[Message]]
    bytes_down: float
    bytes_up: float


def exchange(grid: Grid, nodes: Mapping[str, int], contents: Mapping[str, Any], kind: str, timeout: float) -> Replies:
    """Send each site its content and take the replies that come within ``timeout`` seconds.

    A reply of a node that was not asked is dropped.
    """
    site_of = {nodes[site]: site for site in contents}
    messages = [Message(protocol.pack(content), nodes[site], kind) for site, content in contents.items()]
    by_site: dict[str, list[Message]] = {site: [] for site in contents}
    for reply in grid.send_and_receive(messages, timeout=timeout) if messages else ():
        if (site := site_of.get(reply.metadata.src_node_id)) is not None:
            by_site[site].append(reply)
    return Replies(
        by_site,
        protocol.content_bytes(messages[0]) if messages else 0,
        _mean_size(reply for replies in by_site.values() for reply in replies),
    )


def _mean_size(replies: Iterable[Message]) -> float:
    sizes = [protocol.content_bytes(reply) for reply in replies if reply.has_content()]
    return float(np.mean(sizes)) if sizes else 0.0
