"""How large an answer may be travels with the message that it answers."""

import time

import numpy as np
import pytest
from flwr.app import Error
from flwr.app.message import make_message
from flwr.app.metadata import Metadata

from fedtransfer.common.wire.protocol import Description, Sums
from fedtransfer.server.sites.admission import admit
from fedtransfer.server.sites.answer_size import LEAST_BYTES, REFUSED_AT_THE_GATE, group_of, read_limit


def test_the_limit_is_twice_the_arrays_and_four_mebibytes() -> None:
    assert read_limit(group_of()) == LEAST_BYTES
    sums = Sums(1, "fingerprint", "classes", 0, (np.zeros((1000, 10)),))
    assert read_limit(group_of(sums)) == LEAST_BYTES + 2 * 80_000


@pytest.mark.parametrize("group", ["", "answer of at most  bytes", "answer of at most -5 bytes", "0", "²"])
def test_a_message_without_a_limit_has_the_least(group: str) -> None:
    assert read_limit(group) == LEAST_BYTES


def test_a_round_says_why_the_gate_refused_an_answer() -> None:
    metadata = Metadata(
        run_id=7, message_id="", src_node_id=8, dst_node_id=1, reply_to_message_id="m", group_id="",
        created_at=time.time(), ttl=60.0, message_type="query",
    )  # fmt: skip
    reply = make_message(
        metadata=metadata, error=Error(REFUSED_AT_THE_GATE, "sent an answer of more than 5 bytes")
    )
    assert admit({"eve": [reply]}, Description).refused == {
        "eve": "was refused by the coordinator (sent an answer of more than 5 bytes)"
    }
