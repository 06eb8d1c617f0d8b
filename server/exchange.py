"""One exchange of messages with some sites, by name. Every wait is bounded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from common import protocol


@dataclass(frozen=True)
class Replies:
    """What came back.

    Attributes:
        by_site: every site that was asked → its replies; a sound site sends one.
        bytes_down, bytes_up: what a message to a site carries, and one from a site, in bytes.
    """

    by_site: dict[str, list[Message]]
    bytes_down: int
    bytes_up: int


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
    first = next((replies[0] for replies in by_site.values() if replies and replies[0].has_content()), None)
    # One is measured for all: they hold arrays of the same shapes, and measuring takes as long as sending.
    down, up = (
        protocol.content_bytes(message) if message else 0 for message in (messages[0] if messages else None, first)
    )
    return Replies(by_site, down, up)
