"""Why a site is not connected, in words that say who can mend it."""

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

_NGINX = b"sites of the federation are served here"  # in the words of the coordinator's nginx
CLOCK_SECONDS = 5.0  # Flower refuses signatures that are this much ahead


def cause(error: BaseException, address: str) -> str:
    """Say why a request to the coordinator at ``address`` (host:port) failed."""
    host = address.rpartition(":")[0].strip("[]")
    for reason in _chain(error):
        match reason:
            case httpx.HTTPStatusError(response=response):
                return _status(response, address)
            case ssl.SSLCertVerificationError():
                return certificate_cause(reason, host)
            case ssl.SSLError():
                return f"the TLS connection with {address} was cut or refused ({reason.reason or reason})"
            case socket.gaierror():
                return f"there is no host named {host!r} now; check coordinator in site.toml, and DNS"
            case ConnectionRefusedError():
                return f"{address} refuses connections; is the coordinator up?"
            case TimeoutError() | httpx.TimeoutException():
                return f"{address} does not answer in time; is the coordinator up, and the way to it open?"
    if isinstance(error, ValueError):
        return f"{address} answers, but not like a coordinator; does a proxy or a login page answer for it?"
    return f"{address} cannot be reached ({error})"


def certificate_cause(error: ssl.SSLCertVerificationError, host: str) -> str:
    """Say what is wrong with the certificate that came from ``host``, and who mends it."""
    reason = error.verify_message
    if "expired" in reason:
        return "the coordinator's certificate has expired; its people renew it with: fedtransfer server renew"
    if "not yet valid" in reason:
        return "the coordinator's certificate is not valid yet; is this machine's clock right? Use NTP"
    if "Hostname" in reason or "IP address" in reason:
        return (
            f"the coordinator's certificate is not for {host!r}; use the name that it is for, or have it "
            f"renewed for this name too: fedtransfer server renew --host {host}"
        )
    return (
        f"the coordinator's certificate is not signed by your ca.crt ({reason}); you have another "
        "federation's ca.crt, or somebody intercepts the connection. Compare its SHA-256 with the "
        "coordinator's people"
    )


def clock_offset(response: httpx.Response) -> float | None:
    """Return how many seconds this machine's clock is ahead of the coordinator's, if it says.

    The response was dated between the request and now: a slow one says little, so it counts as 0.
    """
    try:
        date = parsedate_to_datetime(response.headers["date"]).replace(tzinfo=UTC)  # HTTP has GMT only
    except (KeyError, ValueError, OverflowError):
        return None
    received = datetime.now(UTC)
    try:
        sent = received - response.elapsed
    except RuntimeError:  # it was not timed
        sent = received
    if received < date:
        return (received - date).total_seconds()
    return max(0.0, (sent - date).total_seconds())


def clock_cause(offset: float) -> str:
    """Say that the clock is wrong by ``offset`` seconds."""
    return (
        f"this machine's clock is {offset:+.0f} s off the coordinator's, so signatures would be refused; "
        "use NTP"
    )


def is_coordinators(response: httpx.Response) -> bool:
    """Whether SuperLink answered, in JSON, or its nginx, and not a proxy in between."""
    return "json" in response.headers.get("content-type", "") or _NGINX in response.content


def _status(response: httpx.Response, address: str) -> str:
    status, offset = response.status_code, clock_offset(response)
    if status >= 500:
        whose = "SuperLink" if is_coordinators(response) else "a proxy in front of SuperLink"
        return f"{whose} at {address} answers HTTP {status}; its people see: fedtransfer server status"
    if not is_coordinators(response):
        return f"{address} answers HTTP {status}, not like a coordinator; does a proxy answer for it?"
    if status == httpx.codes.UNAUTHORIZED and offset is not None and abs(offset) > CLOCK_SECONDS:
        return clock_cause(offset)
    return (
        f"the coordinator {address} refuses this site: its key is not enrolled, or was revoked; ask the "
        "coordinator's people"
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what caused it, the nearest to the network last."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
