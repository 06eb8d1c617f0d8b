"""The requests that the gate lets through, each with its largest body. All others are refused."""

from dataclasses import dataclass
from typing import Any

from flwr.proto import fleet_pb2 as fleet
from flwr.proto import message_pb2 as objects
from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.run_pb2 import GetRunRequest

SITES, COORDINATOR, TASKS, STARTER = "sites", "the coordinator", "tasks", "SuperExec"
_FEW = 8 * 2**10
_ENVELOPE = 256 * 2**10  # an envelope, with the ids of its objects
_PIECE = 5 * 2**20 + 64 * 2**10  # arrays travel in pieces of 5 MiB
_BUNDLE = 2**20
_ANY = 2**31 - 1  # Flower's limit


@dataclass(frozen=True)
class Door:
    """A kind of request: who may make it, its largest body in bytes, and the message in it."""

    users: str
    most: int
    kind: Any = None  # if the gate reads the message


PUSH_MESSAGES, PUSH_OBJECT = "/v1/fleet/push-messages", "/v1/fleet/push-object"
CONFIRM, START_RUN = "/v1/fleet/confirm-message-received", "/v1/control/start-run"

DOORS = {
    "/v1/fleet/activate-node": Door(SITES, _FEW, fleet.ActivateNodeRequest),
    "/v1/fleet/deactivate-node": Door(SITES, _FEW, fleet.DeactivateNodeRequest),
    "/v1/fleet/send-node-heartbeat": Door(SITES, _FEW, SendNodeHeartbeatRequest),
    "/v1/fleet/pull-messages": Door(SITES, _FEW, fleet.PullMessagesRequest),
    "/v1/fleet/get-run": Door(SITES, _FEW, GetRunRequest),
    "/v1/fleet/get-fab": Door(SITES, _FEW, GetFabRequest),
    "/v1/fleet/pull-object": Door(SITES, _FEW, objects.PullObjectRequest),
    CONFIRM: Door(SITES, _FEW, objects.ConfirmMessageReceivedRequest),
    PUSH_MESSAGES: Door(SITES, _ENVELOPE, fleet.PushMessagesRequest),
    PUSH_OBJECT: Door(SITES, _PIECE, objects.PushObjectRequest),
    START_RUN: Door(COORDINATOR, _BUNDLE, StartRunRequest),
    **{
        f"/v1/control/{name}": Door(COORDINATOR, _BUNDLE)
        for name in ("list-runs", "stop-run", "register-node", "unregister-node", "list-nodes")
    },
    "/v1/runtime/acquire-task": Door(STARTER, _FEW),
    **{
        f"/v1/runtime/{name}": Door(TASKS, _ANY)
        for name in (
            "send-task-heartbeat", "pull-task-input", "push-task-output", "push-logs", "get-nodes",
            "push-messages", "pull-messages", "push-object", "pull-object", "confirm-message-received",
        )
    },
}  # fmt: skip
