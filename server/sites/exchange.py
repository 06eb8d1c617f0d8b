"""One exchange of messages with some sites, by name. Every wait is bounded."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from flwr.app import Message
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid

from fedtransfer.common.wire import records as wire

POLL_SECONDS = 0.2


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

    A reply of a node that was not asked is dropped. That a node is gone, SuperLink says in its place.
    """
    site_of = {nodes[site]: site for site in contents}
    messages = [Message(wire.pack(content), nodes[site], kind) for site, content in contents.items()]
    by_site: dict[str, list[Message]] = {site: [] for site in contents}
    replies = list(_send_and_receive(grid, messages, timeout)) if messages else []
    asked = {message.metadata.message_id: site for site, message in zip(contents, messages, strict=True)}
    for reply in replies:
        site = site_of.get(reply.metadata.src_node_id)
        if reply.metadata.src_node_id == SUPERLINK_NODE_ID and reply.has_error():
            site = asked.get(reply.metadata.reply_to_message_id)
        if site is not None:
            by_site[site].append(reply)
    # One is measured for all: they hold arrays of the same shapes, and measuring takes as long as sending. The one with
    # most arrays is an answer, where there is any: a refusal has none.
    told = (reply for reply in chain.from_iterable(by_site.values()) if reply.has_content())
    fullest = max(told, key=lambda reply: wire.array_bytes(reply.content), default=None)
    down, up = (
        wire.content_bytes(message) if message else 0 for message in (messages[0] if messages else None, fullest)
    )
    return Replies(by_site, down, up)


def carried(content: Any, kind: str) -> int:
    """Return what a message of such content carries, in bytes."""
    return wire.content_bytes(Message(wire.pack(content), SUPERLINK_NODE_ID, kind))


def _send_and_receive(grid: Grid, messages: Sequence[Message], timeout: float) -> Iterable[Message]:
    """Send messages and wait for the replies; a SuperLink is asked for them more often than Flower's 3 s."""
    if type(grid).__name__ != "HttpGrid":  # to import that class takes half a second, and a simulation has none
        return grid.send_and_receive(messages, timeout=timeout)
    deadline, replies = time.monotonic() + timeout, []
    waiting = set(grid.push_messages(messages))
    while waiting and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        came = list(grid.pull_messages(waiting))
        replies += came
        waiting -= {reply.metadata.reply_to_message_id for reply in came}
    return replies
