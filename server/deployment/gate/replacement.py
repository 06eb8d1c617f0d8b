"""An error in place of an answer that the gate refused: the round names its site and goes on."""

import time
from typing import Any

from flwr.app import Error, Metadata
from flwr.app.message import make_message
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.inflatable.inflatable_object import get_object_tree
from flwr.supercore.utils import int64_to_uint64, uint64_to_int64

from fedtransfer.server.deployment.gate.identity import Site
from fedtransfer.server.deployment.gate.refusals import Refusal
from fedtransfer.server.sites.answer_size import REFUSED_AT_THE_GATE

_INSTRUCTION = "SELECT * FROM message_ins WHERE message_id = :id AND dst_node_id = :site"


def answer_instead(state: Any, site: Site, refusal: Refusal) -> None:
    """Answer the message that a site answered wrongly with an error that says why.

    The first answer of a site stands. A message that is gone, or went to another site, gets none.
    """
    numbers = {"id": refusal.instruction, "site": uint64_to_int64(site.node_id)}
    for row in state.query(_INSTRUCTION, numbers):
        now, run_id = time.time(), int64_to_uint64(row["run_id"])
        metadata = Metadata(
            run_id=run_id, message_id="", src_node_id=site.node_id, dst_node_id=SUPERLINK_NODE_ID,
            reply_to_message_id=refusal.instruction, group_id=row["group_id"], created_at=now,
            ttl=row["created_at"] + row["ttl"] - now, message_type=row["message_type"],
        )  # fmt: skip
        message = make_message(metadata=metadata, error=Error(REFUSED_AT_THE_GATE, refusal.text))
        root = message.object_id
        message.metadata.__dict__["_message_id"] = root
        session = state.start_session(run_id)
        stored, missing = state.store_message_and_object_tree(message, get_object_tree(message), session)
        if stored and missing:
            state.store_object(run_id, session, root, message.deflate())


def drop_answer(state: Any, root: str) -> None:
    """Delete an answer whose objects are refused half-way, with those that have come."""
    state.object_store.delete(root)
    state._on_push_session_expired({root})
