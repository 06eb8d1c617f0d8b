"""The site's own requests to the coordinator: is it enrolled, and end its last session."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.proto.fleet_pb2 import ActivateNodeRequest, DeactivateNodeRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from fedtransfer.client.deployment.causes import (
    CLOCK_SECONDS,
    cause,
    clock_cause,
    clock_offset,
    is_coordinators,
)
from fedtransfer.client.deployment.keys import load_keys
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.client.deployment.tls import fleet_client, site_context
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import write_whole


class Fleet:
    """Signed requests to the coordinator; make one with ``connect``."""

    def __init__(self, site: SiteFolder, client: FleetHttpClient, public_key: bytes) -> None:
        self._number, self._client, self._key = site.state / "node-id", client, public_key

    def is_enrolled(self) -> bool:
        """Whether the coordinator knows this site's key.

        Raises:
            UserError: it cannot know, because this machine's clock is wrong.
            httpx.HTTPStatusError: a proxy answers, or SuperLink has an error.
        """
        if node_id := self._node_id():
            try:
                self._client.GetRun(GetRunRequest(node=Node(node_id=node_id), run_id=0))
                return True
            except httpx.HTTPStatusError as error:
                if not _is_refusal(error):
                    return True  # there is no run 0, but the key was accepted
        return self._activate()

    def end_last_session(self) -> bool:
        """Report that a crashed SuperNode is gone, so its messages fail; return whether one was."""
        if not (node_id := self._node_id()):
            return False
        try:
            self._client.DeactivateNode(DeactivateNodeRequest(node_id=node_id))
        except httpx.HTTPStatusError as error:
            _is_refusal(error)
            return False  # it had signed off
        return True

    def _node_id(self) -> int:
        """Return Flower's number of the site; 0 if the file is missing or damaged."""
        try:
            number = int(self._number.read_text("ascii"))
        except (FileNotFoundError, ValueError):
            return 0
        return number if 0 < number < 2**64 else 0

    def _activate(self) -> bool:
        """Sign on and off once, to learn the site's node id; return whether the key is enrolled."""
        request = ActivateNodeRequest(public_key=self._key, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
        try:
            node_id = self._client.ActivateNode(request).node_id
        except httpx.HTTPStatusError as error:
            _is_refusal(error)
            return False
        self._number.parent.mkdir(mode=0o700, exist_ok=True)
        write_whole(self._number, str(node_id))
        self._client.DeactivateNode(DeactivateNodeRequest(node_id=node_id))
        return True


def _is_refusal(error: httpx.HTTPStatusError) -> bool:
    """Whether SuperLink refused the key.

    Raises:
        UserError: it refused the time of the signature.
        httpx.HTTPStatusError: a proxy answered, or SuperLink has an error.
    """
    response = error.response
    if response.is_server_error or not is_coordinators(response):
        raise error
    if response.status_code != httpx.codes.UNAUTHORIZED:
        return False
    offset = clock_offset(response)
    if offset is not None and abs(offset) > CLOCK_SECONDS:
        raise UserError(clock_cause(offset))
    return True


@contextmanager
def connect(site: SiteFolder, key: Path | None = None) -> Iterator[Fleet]:
    """Connect to the coordinator of a site's settings, with its key, or with another ``key``.

    Raises:
        UserError: the site's key or ``ca.crt`` cannot be read, or no coordinator answers.
        httpx.HTTPError: the coordinator cannot be reached, or SuperLink is down behind nginx.
    """
    private, public = load_keys(key or site.key)
    signer = NodeAuthHttpInterceptor(private, public)
    address, kind = site.settings.coordinator, fleet_client(site_context(site.authority, key or site.key))
    with kind.from_server_address(address, False, None, interceptors=[signer]) as client:
        try:
            yield Fleet(site, client, public_key_to_bytes(public))
        except ValueError as error:  # Flower's, of an answer that is no message
            raise UserError(cause(error, address)) from None
