"""One message at SuperNode: whom a site answers."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from flwr.app import Context, Message, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.fab import Fab

from fedtransfer.client.deployment import task
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.common.errors import SiteError
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.bundle import build_bundle

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pathspec.*")


def answer_to(source: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Message:
    """Have a message from a node answered, by an app that answers everything."""
    (folder / "site.toml").write_text('name = "a"\ncoordinator = "localhost:1"\ndata = "images"\n')
    metadata = Metadata(
        run_id=7, message_id="m", src_node_id=source, dst_node_id=9, reply_to_message_id="", group_id="",
        created_at=time.time(), ttl=60.0, message_type="train",
    )  # fmt: skip
    message = make_message(metadata=metadata, content=RecordDict())
    content, digest = build_bundle()
    context = Context(run_id=7, node_id=9, node_config={}, state=RecordDict(), run_config={})
    arrival = message, context, SimpleNamespace(run_id=7), Fab(digest, content, {})
    replies: list[Message] = []
    monkeypatch.setattr(task, "HeartbeatSender", lambda send: SimpleNamespace(start=int, stop=int))
    monkeypatch.setattr(task, "pull_task_input", lambda client: arrival)
    monkeypatch.setattr(task, "push_message", lambda client, reply, context: replies.append(reply))
    monkeypatch.setattr(task, "push_task_output", lambda **output: None)
    app = ClientApp()
    app.train()(lambda message, context: Message(RecordDict(), reply_to=message))
    work = task.Task(SiteFolder.open(folder), "127.0.0.1:1", "token")
    work.fetch()
    work.answer(app)
    work.close()
    return replies[0]


def test_a_site_answers_only_its_coordinator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another site's number as the source: refused, whatever SuperLink let through."""
    assert not answer_to(SUPERLINK_NODE_ID, tmp_path, monkeypatch).content
    with pytest.raises(SiteError, match="this site answers only its coordinator, not another node"):
        wire.unpack(answer_to(4242, tmp_path, monkeypatch).content)
