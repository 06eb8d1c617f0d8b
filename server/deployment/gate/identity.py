"""Who makes a request, from its headers alone: a body is read only after this."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_HEADER, TIMESTAMP_TOLERANCE
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    TASK_TOKEN_HEADER,
)
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, verify_signature
from flwr.supercore.utils import int64_to_uint64

from fedtransfer.server.deployment.gate.refusals import UNAUTHORIZED, Refusal

Headers = Mapping[str, str]

_NODE = "SELECT node_id, name FROM node WHERE public_key = :key AND status != 'unregistered'"
_NO_KEY = "the request is not signed with the key of an enrolled site"
_CLOCK = "signed its request minutes away from the coordinator's time; set the site's clock"
_NO_TOKEN = "the request lacks the coordinator's token; only its user may make it"
_NO_TASK = "the request lacks the token of a task that runs"


@dataclass(frozen=True)
class Site:
    """An enrolled site that signed a request."""

    node_id: int
    name: str


class ForeignClock(Refusal):
    """A site's signature is in order, but not its time."""

    def __init__(self, site: Site) -> None:
        super().__init__(UNAUTHORIZED, _CLOCK)
        self.site = site


def site_of(headers: Headers, state: Any) -> Site:
    """Return the enrolled site whose key signed the request. ``state``: SuperLink's.

    Raises:
        Refusal: none did, or not now.
    """
    try:
        key = base64.b64decode(headers[FLEET_HTTP_PUBLIC_KEY_HEADER], validate=True)
        signature = base64.b64decode(headers[FLEET_HTTP_SIGNATURE_HEADER], validate=True)
        text = headers[TIMESTAMP_HEADER]
        age = (now() - datetime.fromisoformat(text)).total_seconds()
        signed = verify_signature(bytes_to_public_key(key), text.encode("ascii"), signature)
    except (KeyError, ValueError, TypeError, AttributeError, binascii.Error):
        raise Refusal(UNAUTHORIZED, _NO_KEY) from None
    rows = state.query(_NODE, {"key": key}) if signed else []
    if not rows:
        raise Refusal(UNAUTHORIZED, _NO_KEY)
    site = Site(int64_to_uint64(rows[0]["node_id"]), rows[0]["name"])
    if not -SYSTEM_TIME_TOLERANCE < age < TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE:
        raise ForeignClock(site)
    return site


def check_coordinator(headers: Headers, token: str) -> None:
    """Raise a Refusal unless the request has the coordinator's token."""
    offered = headers.get("authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(offered.encode(), token.encode()):
        raise Refusal(UNAUTHORIZED, _NO_TOKEN)


def check_task(headers: Headers, state: Any) -> None:
    """Raise a Refusal unless the request has the token of a task that runs."""
    if state.get_task_by_token(headers.get(TASK_TOKEN_HEADER, "")) is None:
        raise Refusal(UNAUTHORIZED, _NO_TASK)
