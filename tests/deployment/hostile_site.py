"""A site of an attacker's making: an enrolled key, Flower's fleet client, messages of any form.

with hostile(site) as attacker:  # a SiteParty that is enrolled and not started
    asked = attacker.wait_for("train")  # answers everything else honestly
    parcel = Parcel.of(attacker.honest(asked))
    parcel.envelope.metadata.src_node_id = 1
    attacker.push(parcel)
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
from deployment.federation import SiteParty
from deployment.parcel import Parcel, part
from flwr.app import Context, Message, RecordDict
from flwr.common.serde import run_from_proto
from flwr.proto import fleet_pb2 as fleet
from flwr.proto import message_pb2 as objects
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from waiting import wait_until

from fedtransfer.client.deployment.keys import load_keys
from fedtransfer.client.deployment.settings import SiteFolder

__all__ = ["HostileSite", "Parcel", "hostile", "part"]

HEARTBEAT_SECONDS = 30.0
PAUSE_SECONDS = 0.2  # between two polls, as SuperNode's first


class HostileSite:
    """An enrolled site without a SuperNode; make one with ``hostile``."""

    def __init__(self, site: SiteParty) -> None:
        folder = SiteFolder.open(site.folder)
        private, public = load_keys(folder.key)
        self.folder, self.key = folder, public_key_to_bytes(public)
        self.fleet = FleetHttpClient.from_server_address(
            folder.settings.coordinator,
            False,
            str(folder.authority),
            interceptors=[NodeAuthHttpInterceptor(private, public)],
        )
        self.node = Node()
        self._contexts: dict[int, Context] = {}
        self._end = threading.Event()

    def activate(self) -> int:
        """Sign on as soon as the key is enrolled, and stay so; return the node's number."""
        request = fleet.ActivateNodeRequest(public_key=self.key, heartbeat_interval=HEARTBEAT_SECONDS)

        def is_on() -> bool:
            with suppress(httpx.HTTPError):
                self.node.node_id = self.fleet.ActivateNode(request).node_id
            return self.node.node_id != 0

        wait_until(is_on, "the attacker's key is enrolled")
        threading.Thread(target=self._beat, daemon=True).start()
        return int(self.node.node_id)

    def _beat(self) -> None:
        request = SendNodeHeartbeatRequest(node=self.node, heartbeat_interval=HEARTBEAT_SECONDS)
        while not self._end.wait(HEARTBEAT_SECONDS / 3):
            with suppress(httpx.HTTPError):
                self.fleet.SendNodeHeartbeat(request)

    def pull(self) -> Message | None:
        """Fetch a message with its objects, and confirm it; None if there is none."""
        answer = self.fleet.PullMessages(fleet.PullMessagesRequest(node=self.node))
        if not answer.messages_list:
            return None
        metadata, tree = answer.messages_list[0].metadata, answer.message_object_trees[0]
        contents = {
            name: wait_until(lambda name=name: self._object(metadata.run_id, name), f"object {name} is there")
            for name in (node.object_id for node in iterate_object_tree(tree))
        }
        done = objects.ConfirmMessageReceivedRequest(
            node=self.node, run_id=metadata.run_id, message_object_id=metadata.message_id
        )
        self.fleet.ConfirmMessageReceived(done)
        message = inflate_object_from_contents(metadata.message_id, contents)
        assert isinstance(message, Message)
        message.metadata.__dict__["_message_id"] = metadata.message_id
        return message

    def _object(self, run_id: int, name: str) -> bytes:
        request = objects.PullObjectRequest(node=self.node, run_id=run_id, object_id=name)
        return bytes(self.fleet.PullObject(request).object_content)

    def next(self) -> Message:
        """Wait for a message."""
        return wait_until(self._paused_pull, "a message for the attacker")

    def wait_for(self, kind: str) -> Message:
        """Answer honestly until a message of that kind ("query", "train", …) comes; return it."""
        while (message := self.next()).metadata.message_type != kind:
            self.push(Parcel.of(self.honest(message)))
        return message

    def _paused_pull(self) -> Message | None:
        message = self.pull()
        if message is None:
            self._end.wait(PAUSE_SECONDS)
        return message

    def honest(self, message: Message) -> Message:
        """Answer as the installed ClientApp does, from the site's images."""
        from fedtransfer.client.app import app

        return app(message, self._context(message.metadata.run_id))

    def _context(self, run_id: int) -> Context:
        if run_id not in self._contexts:
            run = run_from_proto(self.fleet.GetRun(GetRunRequest(node=self.node, run_id=run_id)).run)
            self._contexts[run_id] = Context(
                run_id=run_id,
                node_id=self.node.node_id,
                node_config={"site": str(self.folder.folder)},
                state=RecordDict(),
                run_config=dict(run.override_config),
            )
        return self._contexts[run_id]

    def announce(self, parcel: Parcel) -> Any:
        """Push envelope and tree alone; return SuperLink's answer: which objects it lacks."""
        request = fleet.PushMessagesRequest(
            node=self.node, messages_list=[parcel.envelope], message_object_trees=[parcel.tree]
        )
        return self.fleet.PushMessages(request)

    def push(self, parcel: Parcel) -> Any:
        """Push envelope, tree, and the objects that SuperLink lacks; return its answer."""
        answer = self.announce(parcel)
        for name in answer.objects_to_push:
            if name in parcel.objects:
                self.push_object(
                    parcel.envelope.metadata.run_id, name, parcel.objects[name], answer.session_id
                )
        return answer

    def push_object(self, run_id: int, name: str, content: bytes, session: str) -> bool:
        """Push an object alone; return whether SuperLink stored it."""
        request = objects.PushObjectRequest(
            node=self.node, run_id=run_id, object_id=name, object_content=content, session_id=session
        )
        return bool(self.fleet.PushObject(request).stored)

    def answer_all(self, act: Any = None) -> None:
        """Answer honestly in the background, but leave to ``act`` what it returns True for."""

        def answer() -> None:
            while not self._end.is_set():
                with suppress(httpx.HTTPError):  # a run that has ended takes no answers
                    message = self._paused_pull()
                    if message and not (act and act(message)):
                        self.push(Parcel.of(self.honest(message)))

        threading.Thread(target=answer, daemon=True).start()

    def close(self) -> None:
        """Sign off."""
        self._end.set()
        with suppress(httpx.HTTPError):
            self.fleet.DeactivateNode(fleet.DeactivateNodeRequest(node_id=self.node.node_id))
        self.fleet.close()


@contextmanager
def hostile(site: SiteParty) -> Iterator[HostileSite]:
    """Sign on as an enrolled site that is not started; sign off at the end."""
    attacker = HostileSite(site)
    attacker.activate()
    try:
        yield attacker
    finally:
        attacker.close()
