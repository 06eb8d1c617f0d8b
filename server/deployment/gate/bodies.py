"""Bodies of requests, read under a bound on their bytes and their time."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fedtransfer.server.deployment.gate.identity import Headers
from fedtransfer.server.deployment.gate.refusals import BUSY, FORBIDDEN, Refusal

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

PAUSE_SECONDS = 20.0  # the longest wait for the next bytes
LEAST_RATE = 16 * 2**10  # bytes a second: a piece of 5 MiB takes at most six minutes
_SLOW = "sent its request too slowly"


class Disconnected(Exception):
    """The sender has gone before its request was complete."""


async def read(receive: Receive, headers: Headers, most: int) -> bytes:
    """Read a body of at most ``most`` bytes.

    Raises:
        Refusal: it is larger, which its length says before it is read, or is too slow.
        Disconnected: nobody waits for an answer.
    """
    try:
        expected = int(headers.get("content-length", "0"))
    except ValueError:
        expected = most + 1
    if not 0 <= expected <= most:
        raise _too_large(most)
    body = bytearray()
    try:
        async with asyncio.timeout(PAUSE_SECONDS + (expected or most) / LEAST_RATE):
            while True:
                async with asyncio.timeout(PAUSE_SECONDS):
                    event = await receive()
                if event["type"] != "http.request":
                    raise Disconnected
                body += event.get("body", b"")
                if len(body) > most:
                    raise _too_large(most)
                if not event.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise Refusal(BUSY, _SLOW) from None


def replay(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read once more, and then the connection's other events."""
    events = [{"type": "http.request", "body": body, "more_body": False}]

    async def give() -> Event:
        return events.pop() if events else await receive()

    return give


async def answer(send: Send, status: int, media: str, body: bytes, *, close: bool = False) -> None:
    """Answer a request without SuperLink."""
    headers = [(b"content-type", media.encode()), (b"content-length", str(len(body)).encode())]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _too_large(most: int) -> Refusal:
    return Refusal(FORBIDDEN, f"sent a request of more than {most} bytes")
