"""The sites' answers: which messages a site may push, and which objects of them.

An answer comes from the site whose key signed, goes to the run's ServerApp, and answers a message
that went to this site, once. Its tree of objects is small. All its objects together have at most
the bytes that the ServerApp expects (``server/sites/answer_size.py``).
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.inflatable.inflatable_object import is_valid_sha256_hash
from flwr.supercore.utils import int64_to_uint64

from fedtransfer.server.deployment.gate.identity import Site
from fedtransfer.server.deployment.gate.refusals import FORBIDDEN, Refusal
from fedtransfer.server.sites.answer_size import read_limit

_MOST_OBJECTS = 8  # and one for each piece of arrays
_OBJECT_BYTES = 4 * 2**20
_DEPTH = 4  # message, records, record, piece
_MOST_ANSWERS = 20_000  # that are remembered
_LIFE_SECONDS = 3600.0  # of an upload that its site never completes

_INSTRUCTION = "SELECT run_id, dst_node_id, group_id FROM message_ins WHERE message_id = :id"


class TooLate(Exception):
    """Nobody waits for the answer any more: its message is gone, as SuperLink would find too."""


@dataclass
class Upload:
    """An answer whose objects come one by one."""

    site: Site
    run_id: int
    instruction: str  # id of the message that it answers
    root: str  # id of the answer, and of the root of its tree
    most: int  # bytes of all its objects
    missing: frozenset[str]  # ids of the objects that SuperLink lacks
    sizes: dict[str, int] = field(default_factory=dict)  # object id → bytes
    began: float = field(default_factory=time.monotonic)


class Uploads:
    """The answers that were let in, and by session those whose objects are on their way."""

    def __init__(self) -> None:
        self._uploads: dict[str, Upload] = {}
        self._answers: dict[tuple[Site, str], str] = {}  # site and message → id of the answer, "" if refused
        self._lock = Lock()

    def check_first(self, site: Site, metadata: Any) -> None:
        """Raise a Refusal if a site gives a second answer; the same again may follow a lost reply.

        ``metadata``: of the answer.
        """
        with self._lock:
            first = self._answers.get((site, metadata.reply_to_message_id))
        if first not in (None, metadata.message_id):
            raise Refusal(FORBIDDEN, "answered a message a second time")

    def note_answer(self, site: Site, instruction: str, answer: str = "") -> None:
        """Remember that a site answered a message, or in vain, so that it stays with that."""
        with self._lock:
            self._answers.setdefault((site, instruction), answer)
            while len(self._answers) > _MOST_ANSWERS:
                del self._answers[next(iter(self._answers))]

    def add(self, session: str, upload: Upload) -> None:
        """Add an answer, in place of an earlier try of the same."""
        with self._lock:
            now = time.monotonic()
            self._uploads = {
                name: each
                for name, each in self._uploads.items()
                if each.instruction != upload.instruction and now - each.began < _LIFE_SECONDS
            }
            if upload.missing:
                self._uploads[session] = upload

    def resume(self, site: Site, answer: str) -> tuple[str, list[str]]:
        """Return session and missing objects of an answer that a site announces again.

        SuperLink forgets the message that it answers once the ServerApp has its envelope. A site
        that missed SuperLink's first reply would never send the objects, and the round would wait.
        """
        with self._lock:
            for session, upload in self._uploads.items():
                if (upload.site, upload.root) == (site, answer):
                    return session, sorted(upload.missing - upload.sizes.keys())
            return "", []

    def largest(self, site: Site) -> int:
        """Return the bytes of the largest answer that is on its way from a site; 0 for none."""
        with self._lock:
            return max((each.most for each in self._uploads.values() if each.site == site), default=0)

    def take(self, site: Site, request: Any) -> Upload:
        """Count an object; return the upload that it belongs to.

        Raises:
            Refusal: it was not announced by this site, or is too large with those before it.
        """
        with self._lock:
            upload = self._uploads.get(request.session_id)
            if upload is None or upload.site != site or request.object_id not in upload.missing:
                raise Refusal(FORBIDDEN, "sent an object that it had not announced")
            upload.sizes[request.object_id] = len(request.object_content)
            if sum(upload.sizes.values()) > upload.most:
                del self._uploads[request.session_id]
                raise TooLarge(upload)
            return upload

    def cut(self, site: Site) -> list[Upload]:
        """Forget all answers that are on their way from a site; return them."""
        with self._lock:
            cut = {name: each for name, each in self._uploads.items() if each.site == site}
            self._uploads = {name: each for name, each in self._uploads.items() if name not in cut}
            return list(cut.values())

    def complete(self, session: str) -> None:
        """Forget an answer once all its objects have come."""
        with self._lock:
            upload = self._uploads.get(session)
            if upload and upload.missing <= upload.sizes.keys():
                del self._uploads[session]


class TooLarge(Refusal):
    """An answer has more bytes than any that was asked for."""

    def __init__(self, upload: Upload) -> None:
        super().__init__(FORBIDDEN, f"sent an answer of more than {upload.most} bytes", upload.instruction)
        self.upload = upload


def check_answer(site: Site, request: Any, state: Any) -> Upload:
    """Check the envelope and the tree of an answer; return its upload, which lacks nothing yet.

    Args:
        site: whose key signed.
        request: Flower's PushMessagesRequest.
        state: SuperLink's.

    Raises:
        Refusal: it is no answer that this site may give.
        TooLate: the message that it answers is gone.
    """
    if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
        raise Refusal(FORBIDDEN, "sent several messages in one request, or none")
    metadata, tree = request.messages_list[0].metadata, request.message_object_trees[0]
    instruction = metadata.reply_to_message_id
    if not instruction:
        raise Refusal(FORBIDDEN, "sent a message that answers none, as only the coordinator may")
    if metadata.src_node_id != site.node_id:
        raise Refusal(FORBIDDEN, "sent a message in the name of another", instruction)
    if metadata.dst_node_id != SUPERLINK_NODE_ID:
        raise Refusal(FORBIDDEN, "sent a message to another site", instruction)
    if not (rows := state.query(_INSTRUCTION, {"id": instruction})):
        raise TooLate
    receiver, run_id = (int64_to_uint64(rows[0][name]) for name in ("dst_node_id", "run_id"))
    if (receiver, run_id) != (site.node_id, metadata.run_id):
        raise Refusal(FORBIDDEN, "answered a message that did not go to it")
    most = read_limit(rows[0]["group_id"])
    _check_tree(tree, metadata, most)
    return Upload(site, run_id, instruction, tree.object_id, most, frozenset())


def _check_tree(tree: Any, metadata: Any, most: int) -> None:
    """Check the ids, the number and the depth of an answer's objects."""
    objects = _MOST_OBJECTS + most // _OBJECT_BYTES
    for number, (node, depth) in enumerate(_walk(tree), 1):
        if number > objects or depth > _DEPTH:
            text = f"sent an answer of more than {objects} objects, or more than {_DEPTH} deep"
            raise Refusal(FORBIDDEN, text, metadata.reply_to_message_id)
        if not is_valid_sha256_hash(node.object_id):
            raise Refusal(FORBIDDEN, "sent an object under no hash", metadata.reply_to_message_id)
    if tree.object_id != metadata.message_id:
        raise Refusal(FORBIDDEN, "sent an answer under another id than its own", metadata.reply_to_message_id)


def _walk(tree: Any) -> Iterator[tuple[Any, int]]:
    """Yield the nodes of a tree with their depth, as far as is asked for."""
    waiting = [iter([tree])]
    while waiting:
        node = next(waiting[-1], None)
        if node is None:
            waiting.pop()
        else:
            yield node, len(waiting)
            waiting.append(iter(node.children))


def may_confirm(site: Site, request: Any, state: Any) -> bool:
    """Whether a message that a site confirms is there; SuperLink deletes it by its id alone.

    Raises:
        Refusal: it did not go to this site.
    """
    rows = state.query(_INSTRUCTION, {"id": request.message_object_id})
    if rows and int64_to_uint64(rows[0]["dst_node_id"]) != site.node_id:
        raise Refusal(FORBIDDEN, "confirmed a message that did not go to it")
    return bool(rows)
