"""Flower's SuperNode, which polls faster, shows the site's certificate, and never gives up.

Flower 1.41 waits 3 s after each poll without a message, and 0.5 s after each poll for the answer.
Both are constants in its loop. That is most of a round, and a masked round has five exchanges. Here
the first wait is 0.2 s, and each further wait is half as long again, up to Flower's 3 s. So an idle
site makes no more requests than before.

Flower's loop ends at the first HTTP 500, TLS error or answer of a proxy, and its heartbeats at the
first HTTP 500, while the process lives on. Here whatever may pass is tried again for ever, with
growing pauses and jitter. What cannot pass, such as a revoked key, ends the process. The condition
of the connection is in a file, whose time is the pulse of the loop.

    python -m fedtransfer.client.deployment.eager_supernode FILE ARGUMENTS OF flower-supernode
"""

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from flwr.supercore import heartbeat
from flwr.supercore.retry import RetryInvoker, RetryState, make_simple_http_retry_invoker
from flwr.supercore.run import RunNotRunningException
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.cli import flower_supernode
from flwr.supernode.fleet_http_client import FleetHttpClient

from fedtransfer.client.deployment.causes import cause, clock_offset, is_coordinators
from fedtransfer.client.deployment.tls import fleet_client, site_context
from fedtransfer.common.support.condition import ConditionFile
from fedtransfer.common.wire.bundle import SOURCES_HEADER, sources_digest

IDLE_SECONDS = 3  # Flower's sleep without a message
FIRST_SECONDS, GROWTH = 0.2, 1.5
ANSWER_SECONDS = 0.1
PULSE_SECONDS = 5.0  # between two signs of life during a request, which may send megabytes slowly
SKEW_SECONDS = 2.0  # difference of clocks below which they are equal: HTTP's times are whole seconds
_LATER = (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_EARLY, httpx.codes.TOO_MANY_REQUESTS)
_POLLS = ("/activate-node", "/pull-messages")  # all other requests are about one message


class Pace:
    """Replaces the module ``time`` in Flower's loop, which uses only ``sleep`` of it."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self._next, self._beat = float(IDLE_SECONDS), beat

    def sleep(self, seconds: float) -> None:
        """Sleep briefly while a message is being answered, then longer each time until the next."""
        self._beat()
        if seconds < IDLE_SECONDS:  # a message is being worked on
            self._next = FIRST_SECONDS
            time.sleep(ANSWER_SECONDS)
            return
        time.sleep(self._next)
        self._next = min(GROWTH * self._next, IDLE_SECONDS)


def is_final(error: Exception) -> bool:
    """Whether a failed request is given up, as it would fail again.

    Raises:
        RunNotRunningException: its run has ended, so Flower drops the message.
    """
    if not isinstance(error, httpx.HTTPStatusError):
        return False
    status = error.response.status_code
    if status >= 500 or status in _LATER:
        return False
    if error.request.url.path.endswith(_POLLS):
        return is_coordinators(error.response)  # else a proxy refused, which says nothing of the key
    if status == httpx.codes.FORBIDDEN:
        raise RunNotRunningException
    return True


def persistent_invoker(condition: ConditionFile, address: str, facts: dict[str, Any]) -> RetryInvoker:
    """Return Flower's retries, which here try again whatever may pass, and record the condition."""
    invoker = make_simple_http_retry_invoker()
    wait = invoker.wait_function

    def fail(state: RetryState) -> None:
        assert state.exception
        # One request may fail because SuperLink closes an idle connection as it is sent.
        if state.tries > 1 or not isinstance(state.exception, httpx.NetworkError | httpx.ProtocolError):
            condition.down(cause(state.exception, address))

    def pause(seconds: float) -> None:
        condition.beat()
        wait(seconds)
        condition.beat()

    invoker.recoverable_exceptions = (httpx.HTTPError, ValueError)  # a proxy's page is a ValueError
    invoker.should_giveup, invoker.wait_function = is_final, pause
    invoker.on_backoff = invoker.on_giveup = fail
    invoker.on_success = lambda _: condition.up(facts)
    return invoker


class SteadyHeartbeat(heartbeat.HeartbeatSender):
    """Sends heartbeats whatever comes: Flower's thread ends at an error that it does not expect."""

    def __init__(self, send: Callable[[], bool]) -> None:
        def send_or_fail() -> bool:
            try:
                return send()
            except Exception:  # tried again after a pause
                return False

        super().__init__(send_or_fail)


def attentive_client(
    kind: type[FleetHttpClient], condition: ConditionFile, facts: dict[str, Any]
) -> type[FleetHttpClient]:
    """Return a ``kind`` that names its version, and learns facts about the coordinator."""
    requests = 0  # under way

    class Client(kind):  # type: ignore[misc, valid-type]
        def _send(self, context: Any, *, stream: bool = False) -> httpx.Response:
            nonlocal requests
            context.request.headers[SOURCES_HEADER] = sources_digest()
            requests += 1
            try:
                response = super()._send(context, stream=stream)
            finally:
                requests -= 1
            facts.update(facts_of(response))
            return response

    def show_pulse() -> None:
        while True:
            time.sleep(PULSE_SECONDS)
            if requests:
                condition.beat()

    threading.Thread(target=show_pulse, daemon=True).start()
    return Client


def facts_of(response: httpx.Response) -> dict[str, Any]:
    """Return what a response tells of the coordinator: its clock, its version, its certificate."""
    facts: dict[str, Any] = {}
    if (offset := clock_offset(response)) is not None:
        facts["clock"] = round(offset) if abs(offset) > SKEW_SECONDS else 0
    if sources := response.headers.get(SOURCES_HEADER):
        facts["sources"] = sources[:64]
    stream = response.extensions.get("network_stream")
    secured = stream.get_extra_info("ssl_object") if stream else None
    if secured and (certificate := secured.getpeercert(True)):
        end = x509.load_der_x509_certificate(certificate).not_valid_after_utc
        facts["certificate_ends"] = end.timestamp()
    return facts


def main(arguments: list[str]) -> None:
    """Run SuperNode; return when its loop has ended."""
    path, *rest = arguments
    condition, facts = ConditionFile(Path(path)), dict[str, Any]()
    address, authority, key = (
        rest[rest.index(option) + 1]
        for option in ("--superlink", "--root-certificates", "--auth-supernode-private-key")
    )
    client = fleet_client(site_context(Path(authority), Path(key)))
    vars(start_client_internal)["time"] = Pace(condition.beat)
    vars(fleet_http_connection).update(
        make_simple_http_retry_invoker=lambda: persistent_invoker(condition, address, facts),
        HeartbeatSender=SteadyHeartbeat,
        FleetHttpClient=attentive_client(client, condition, facts),
    )
    sys.argv[1:] = rest  # as SuperNode's command reads them
    flower_supernode()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(1)  # Flower's other threads would keep the process, though its loop has ended
