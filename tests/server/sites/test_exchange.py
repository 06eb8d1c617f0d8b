"""One exchange: whose answer is whose."""

from collections.abc import Iterable

import pytest
from flwr.app import Message
from flwr.server.superlink.linkstate.utils import create_message_error_unavailable_res_message
from flwr.supercore.task_identity import TaskIdentity

from fedtransfer.common.wire import protocol
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.protocol import Preparing, Query
from fedtransfer.server.sites.admission import admit
from fedtransfer.server.sites.exchange import exchange

NODES = {"near": 11, "gone": 22, "late": 33}


class Grid:
    """Answers as SuperLink does: for a site not connected it answers itself, in nobody's name."""

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float) -> Iterable[Message]:
        near, gone, late = messages
        for message in (near, gone, late):
            message.metadata.__dict__["_message_id"] = message.object_id
        answer = Message(wire.pack(Preparing(1, 2)), reply_to=near)
        answer.metadata.__dict__["_src_node_id"] = NODES["near"]
        stranger = Message(wire.pack(Preparing(1, 2)), reply_to=late)
        stranger.metadata.__dict__["_src_node_id"] = 44
        return [answer, stranger, create_message_error_unavailable_res_message(gone.metadata, "node_unavail")]


def test_a_site_that_is_not_connected_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_task_id", "_run_id", "_node_id"):  # without which Flower makes no message
        monkeypatch.setattr(TaskIdentity, name, 1)
    asked = dict.fromkeys(NODES, Query("a backbone", 64, "0" * 64))
    replies = exchange(Grid(), NODES, asked, protocol.QUERY, 5.0)
    answers = admit(replies.by_site, Preparing)
    assert answers.admitted == {"near": Preparing(1, 2)}
    assert answers.refused["gone"].startswith("is no longer connected")
    assert answers.refused["late"] == "did not answer in time"  # another node's answer in its name is none
