"""The sites over SuperLink: replies are fetched one by one as they arrive, none holds up another.

Flower's ``HttpGrid.pull_messages`` fetches one reply after another: it waits up to two hours for
the objects of one, and raises for all of them if one is no message. It takes the sender from inside
the reply, where a site may write another's number; the number on the envelope is the one that
SuperLink compared with the receiver of the request.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import httpx
from flwr.app import Error, Message, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.common.serde_utils import metadata_from_proto
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, PullObjectRequest
from flwr.proto.node_pb2 import NodeInfo
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from flwr.supercore.inflatable.inflatable_object import (
    get_object_type_from_object_content,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.run import Run

from fedtransfer.common.wire.records import array_bytes
from fedtransfer.server.sites.admission import INCOMPLETE, UNREADABLE
from fedtransfer.server.sites.answer_size import read_limit

T = TypeVar("T")

POLL_SECONDS = 0.2
BUSY_SECONDS = 60.0  # that SuperLink may answer with errors of its own, as while its database is locked
OBJECTS = 10_000  # the most in a reply: 50 GB in pieces of 5 MB
THREADS = 4  # that fetch objects
SLICE_SECONDS = 2.0  # for a reply before the others have their turn
# Flower's arrays are not among them: a small one can claim to be a million times one of its pieces.
KINDS = ("Message", "RecordDict", "ConfigRecord")


class NetworkGrid:
    """Flower's ``HttpGrid`` with a bound on every wait; the part of a grid that a run uses."""

    def __init__(self, grid: Any) -> None:
        self._grid = grid

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._grid.run

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Return the nodes that are connected."""
        return steadily(lambda: list(self._grid.get_nodes()), time.monotonic() + BUSY_SECONDS)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of the nodes that are connected."""
        return [node.node_id for node in self.get_nodes()]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float) -> Iterator[Message]:
        """Send messages; yield the replies that arrive within ``timeout`` seconds.

        An error stands for a reply that is no message, and for one of which only a part arrived.
        """
        sent, deadline = list(messages), time.monotonic() + timeout
        ids = steadily(lambda: list(self._grid.push_messages(sent)), deadline)
        most = read_limit(sent[0].metadata.group_id) if sent else 0
        inbox = Inbox(self._grid, [identity for identity in ids if identity], most)
        while inbox.waits and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(POLL_SECONDS, left))
            yield from inbox.fetch(deadline)
        yield from inbox.close()


@dataclass
class Parcel:
    """A reply that SuperLink announced."""

    metadata: Metadata
    missing: list[str]  # ids of objects that have not been fetched
    most: int  # bytes of its arrays
    contents: dict[str, bytes] = field(default_factory=dict)

    def error(self, code: int, reason: str) -> Message:
        """Return an error message in place of the reply."""
        return make_message(self.metadata, error=Error(code, reason))

    def message(self) -> Message:
        """Return the reply once all its objects are there, or an error if they are no message."""
        try:
            kinds = set(map(get_object_type_from_object_content, self.contents.values()))
            if foreign := sorted(kinds - set(KINDS)):
                return self.error(UNREADABLE, f"objects of type {', '.join(foreign)}")
            message = inflate_object_from_contents(self.metadata.message_id, self.contents)
            if not isinstance(message, Message):
                return self.error(UNREADABLE, f"of type {type(message).__name__}")
            if message.has_error():
                return make_message(self.metadata, error=message.error)
            if not isinstance(message.content, RecordDict):
                return self.error(UNREADABLE, f"content of type {type(message.content).__name__}")
            size = array_bytes(message.content)  # an object may stand in it under thousands of names
            if size > self.most:
                return self.error(UNREADABLE, f"{size} bytes, expected at most {self.most}")
            return make_message(self.metadata, content=message.content)
        except Exception as error:  # Flower raises many kinds for bytes that somebody made up
            return self.error(UNREADABLE, type(error).__name__)


class Inbox:
    """The replies, each of ``most`` bytes, to messages of a grid's run, by the messages' ids."""

    def __init__(self, grid: Any, message_ids: Collection[str], most: int) -> None:
        self._client, self._node, self._run_id = grid._runtime_client, grid.node, grid.run.run_id
        self._unanswered, self._most = set(message_ids), most
        self._parcels: list[Parcel] = []

    @property
    def waits(self) -> bool:
        """Whether replies are missing, wholly or in part."""
        return bool(self._unanswered or self._parcels)

    def fetch(self, deadline: float) -> Iterator[Message]:
        """Yield the replies that are complete by now; of one that is no message, an error."""
        self._announced()
        parcels, self._parcels = self._parcels, []
        with ThreadPoolExecutor(THREADS) as pool:
            replies = list(pool.map(lambda parcel: self._completed(parcel, deadline), parcels))
        for parcel, reply in zip(parcels, replies, strict=True):
            if reply is None:
                self._parcels.append(parcel)
            else:
                self._delete(parcel)
                yield reply

    def close(self) -> Iterator[Message]:
        """Give up the replies of which only a part arrived; yield an error for each."""
        for parcel in self._parcels:
            self._delete(parcel)
            arrived = len(parcel.contents)
            yield parcel.error(INCOMPLETE, f"{arrived} of {arrived + len(parcel.missing)} objects arrived")

    def _announced(self) -> None:
        """Ask SuperLink which replies it has."""
        request = PullAppMessagesRequest(message_ids=self._unanswered)
        if not self._unanswered or not (answer := unless_busy(lambda: self._client.PullMessages(request))):
            return
        for envelope, tree in zip(answer.messages_list, answer.message_object_trees, strict=True):
            metadata = metadata_from_proto(envelope.metadata)
            if metadata.reply_to_message_id in self._unanswered:  # else it answers none of the messages
                objects = (each.object_id for each in iterate_object_tree(tree))
                self._parcels.append(
                    Parcel(metadata, list(dict.fromkeys(islice(objects, OBJECTS + 1))), self._most)
                )
        self._unanswered -= {parcel.metadata.reply_to_message_id for parcel in self._parcels}

    def _completed(self, parcel: Parcel, deadline: float) -> Message | None:
        """Fetch the objects of a reply, up to the first that has not arrived."""
        if len(parcel.missing) > OBJECTS:
            return parcel.error(UNREADABLE, f"more than {OBJECTS} objects")
        until = min(deadline, time.monotonic() + SLICE_SECONDS)
        while parcel.missing and time.monotonic() < until:
            request = PullObjectRequest(node=self._node, run_id=self._run_id, object_id=parcel.missing[0])
            answer = unless_busy(lambda request=request: self._client.PullObject(request))  # type: ignore[misc]
            if answer and not answer.object_found:
                return parcel.error(UNREADABLE, "an object that SuperLink does not have")
            if not answer or not answer.object_available:
                return None
            parcel.contents[parcel.missing.pop(0)] = answer.object_content
        return None if parcel.missing else parcel.message()

    def _delete(self, parcel: Parcel) -> None:
        """Have SuperLink delete the objects of a reply."""
        request = ConfirmMessageReceivedRequest(
            node=self._node, run_id=self._run_id, message_object_id=parcel.metadata.message_id
        )
        unless_busy(lambda: self._client.ConfirmMessageReceived(request))


def unless_busy(request: Callable[[], T]) -> T | None:
    """Make a request to SuperLink; return None if it fails there or on the way.

    It fails there while the database is locked, and on the way while SuperLink is restarted.
    """
    try:
        return request()
    except httpx.TransportError:
        return None
    except httpx.HTTPStatusError as error:
        if not error.response.is_server_error:
            raise
        return None


def steadily(request: Callable[[], T], deadline: float) -> T:
    """Make a request to SuperLink, and again until the deadline if it fails there.

    Raises:
        HTTPStatusError: it is refused, or failed at the deadline too.
    """
    while time.monotonic() < deadline:
        if (answer := unless_busy(request)) is not None:
            return answer
        time.sleep(POLL_SECONDS)
    return request()
