"""Flower's SuperLink: how to start it, and requests to its Control API. No other file makes these.

SuperLink asks for no credential on that API. So it listens on this machine only, behind a gate
(``gate/``) that asks for a token, which only the coordinator's user can read. From outside, nginx
passes only requests of sites on to it.
"""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import httpx
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto import control_pb2 as control
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.error import FlowerError
from flwr.supercore.fab import Fab
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext

from fedtransfer.common.config.config import RunConfig, Value
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.processes import spawn, tool
from fedtransfer.common.wire.bundle import build_bundle
from fedtransfer.server.deployment.coordinator import Coordinator

_SEE_LOG = "see fedtransfer server logs --superlink"


class Unavailable(UserError):
    """SuperLink does not answer, or has an error that may pass."""


class NoAnswer(Unavailable):
    """SuperLink does not answer at all."""


@dataclass(frozen=True)
class Node:
    """A site as SuperLink knows it."""

    node_id: int
    name: str  # under which it is enrolled
    public_key: bytes  # PEM
    status: str  # registered (never seen), online or offline
    since: datetime | None  # the time of that status; None if it never connected


@dataclass(frozen=True)
class RunStatus:
    """A run as SuperLink knows it."""

    status: str  # pending, starting, running or finished
    outcome: str  # of a finished run: completed, failed or stopped
    details: str  # why it failed, in the words of Flower or of the exception that ended it


def start_superlink(coordinator: Coordinator) -> subprocess.Popen[bytes]:
    """Start SuperLink behind its gate; call it from the main thread."""
    state = coordinator.state
    command = [sys.executable, "-P", "-m", "fedtransfer.server.deployment.gate", str(coordinator.folder)]
    tools = {"PATH": f"{tool('')}:/usr/bin:/bin", "FLWR_HOME": str(state / "flower")}
    return spawn(command, state / "superlink.log", tools)


class _Token:
    """Adds the coordinator's token to requests."""

    def __init__(self, token: str) -> None:
        self._token = token

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Add the token before the request is sent."""
        context.request.headers["authorization"] = f"Bearer {self._token}"
        return call_next(context)


class SuperLink:
    """A connection to the Control API; make one with ``connect``."""

    def __init__(self, client: ControlHttpClient) -> None:
        self._client = client

    def nodes(self) -> list[Node]:
        """Return the enrolled sites."""
        listed = self._client.ListNodes(control.ListNodesRequest()).nodes_info
        nodes = [node for node in listed if node.status != "unregistered"]
        return [Node(node.node_id, node.name, node.public_key, node.status, _since(node)) for node in nodes]

    def register(self, public_key: bytes, name: str) -> None:
        """Register the owner of a public key (PEM) under a name."""
        self._client.RegisterNode(control.RegisterNodeRequest(public_key=public_key, name=name))

    def unregister(self, node_id: int) -> None:
        """Unregister a site; it is refused from now on."""
        self._client.UnregisterNode(control.UnregisterNodeRequest(node_id=node_id))

    def submit(self, config: RunConfig) -> int:
        """Start a run of the installed fedtransfer; return Flower's run id."""
        return self.start(build_bundle()[0], config.to_flat())

    def start(self, bundle: bytes, settings: dict[str, Value]) -> int:
        """Start a run of any bundle, with settings that override its own; return Flower's run id.

        Raises:
            UserError: SuperLink does not start it.
        """
        fab = Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})
        request = control.StartRunRequest(
            fab=fab_to_proto(fab), override_config=user_config_to_proto(settings)
        )
        with _readable_refusals():
            answer = self._client.StartRun(request)
        if not answer.HasField("run_id"):
            raise UserError(f"SuperLink did not start the run: {answer.note}; {_SEE_LOG}")
        return int(answer.run_id)

    def run(self, run_id: int) -> RunStatus | None:
        """Return the status of a run, None if SuperLink does not know it."""
        try:
            runs = self._client.ListRuns(control.ListRunsRequest(run_id=run_id)).run_dict
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND:
                return None
            raise
        status = runs[run_id].status if run_id in runs else None
        return RunStatus(status.status, status.sub_status, status.details) if status else None

    def stop(self, run_id: int) -> None:
        """End a run."""
        self._client.StopRun(control.StopRunRequest(run_id=run_id))


@contextmanager
def connect(coordinator: Coordinator) -> Iterator[SuperLink]:
    """Connect to the coordinator's SuperLink.

    Raises:
        NoAnswer: SuperLink does not answer.
        Unavailable: it has an error that may pass.
        UserError: it refuses a request.
    """
    authority = (coordinator.certificates / "ca.crt").read_bytes()
    token = _Token(coordinator.token)
    client = ControlHttpClient.from_server_address(coordinator.superlink_address, False, authority, [token])
    try:
        with _readable_refusals():
            yield SuperLink(client)
    except httpx.TransportError as error:
        remedy = f"start it: fedtransfer server start --dir {coordinator.folder}"
        silent = f"SuperLink does not answer at {coordinator.superlink_address} ({error})"
        raise NoAnswer(f"{silent}; {remedy}") from None
    finally:
        client.close()


@contextmanager
def _readable_refusals() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as error:
        cause = FlowerError.from_json(error.response.text)
        code = f"HTTP {error.response.status_code}"
        reason = f"{cause.message} {cause.public_details or ''}".strip() if cause else code
        kind = Unavailable if error.response.is_server_error else UserError
        raise kind(f"SuperLink refused: {reason}; {_SEE_LOG}") from None


def _since(node: object) -> datetime | None:
    names = {"online": "last_activated_at", "offline": "last_deactivated_at"}
    name = names.get(node.status)  # type: ignore[attr-defined]
    text = getattr(node, name) if name else ""
    return datetime.fromisoformat(text) if text else None
