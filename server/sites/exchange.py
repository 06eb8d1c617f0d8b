"""One exchange of messages with sites, by name. Every wait is bounded."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import chain
from threading import Thread
from typing import Any

from flwr.app import Message
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid

from fedtransfer.common.wire import records as wire


@dataclass(frozen=True)
class Replies:
    """The replies of one exchange, and the size of a message to a site and of one from a site."""

    by_site: dict[str, list[Message]]  # every site of the exchange; a correct one sends one reply
    bytes_down: int
    bytes_up: int


def exchange_in_groups(
    grid: Grid, nodes: Mapping[str, int], contents: Mapping[str, Any], kind: str, timeout: float,
    group_id: str = "",
) -> Iterator[Replies]:  # fmt: skip
    """Do as ``exchange`` with as many sites at a time as the grid takes; yield the groups' replies.

    The sites of a group have their replies, or are given up after ``timeout`` seconds, before the
    next group is sent its content: memory holds the heads and sums of two groups, one at its sites
    and one that the caller works on. A grid takes all sites at once unless it has a ``group``, a
    number of sites.
    """
    sites = list(contents)
    size = getattr(grid, "group", 0) or max(1, len(sites))
    groups = [{s: contents[s] for s in sites[at : at + size]} for at in range(0, len(sites), size)]
    if len(groups) < 2:
        yield from (exchange(grid, nodes, group, kind, timeout, group_id) for group in groups)
        return
    exchanging = _begun(exchange, grid, nodes, groups[0], kind, timeout, group_id)
    for group in groups[1:]:
        replies = exchanging.result()
        exchanging = _begun(exchange, grid, nodes, group, kind, timeout, group_id)
        yield replies
    yield exchanging.result()


def _begun(work: Callable[..., Replies], *arguments: Any) -> Future[Replies]:
    """Begin a piece of work in a daemon thread, which does not keep the program from ending."""
    future: Future[Replies] = Future()

    def run() -> None:
        try:
            future.set_result(work(*arguments))
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, name="exchange", daemon=True).start()
    return future


def exchange(
    grid: Grid, nodes: Mapping[str, int], contents: Mapping[str, Any], kind: str, timeout: float,
    group_id: str = "",
) -> Replies:  # fmt: skip
    """Send each site its content; return the replies that arrive within ``timeout`` seconds.

    A reply from any other node is dropped. SuperLink reports a lost node on its behalf.
    ``group_id`` says how large an answer may be (``answer_size.py``).
    """
    site_of = {nodes[site]: site for site in contents}
    receipts = getattr(grid, "receipts", None)  # of a deployment: the coordinator's record of sites' logs
    messages = []
    for name, content in contents.items():
        records = wire.pack(content)
        if receipts:
            wire.stamp(records, wire.LOG, receipts.of(name))
        messages.append(Message(records, nodes[name], kind, group_id=group_id))
    by_site: dict[str, list[Message]] = {site: [] for site in contents}
    replies = list(grid.send_and_receive(messages, timeout=timeout)) if messages else []
    site_by_message = {
        message.metadata.message_id: site for site, message in zip(contents, messages, strict=True)
    }
    for reply in replies:
        site = site_of.get(reply.metadata.src_node_id)
        if reply.metadata.src_node_id == SUPERLINK_NODE_ID and reply.has_error():
            site = site_by_message.get(reply.metadata.reply_to_message_id)
        if site is not None:
            by_site[site].append(reply)
    if receipts:
        answered = {name: [r for r in received if r.has_content()] for name, received in by_site.items()}
        receipts.add(kind, {name: r[-1].content for name, r in answered.items() if r})
    # One message stands for all, of arrays of the same shapes: measuring takes as long as sending.
    # The reply with the most array bytes is an answer if there is one: a refusal has no arrays.
    complete = [reply for reply in chain.from_iterable(by_site.values()) if reply.has_content()]
    fullest = sorted(complete, key=lambda reply: -wire.array_bytes(reply.content))
    down, up = (wire.content_bytes(some[0]) if some else 0 for some in (messages, fullest))
    return Replies(by_site, down, up)


def carried(content: Any, kind: str) -> int:
    """Return the size of a message with this content, in bytes."""
    return wire.content_bytes(Message(wire.pack(content), SUPERLINK_NODE_ID, kind))
