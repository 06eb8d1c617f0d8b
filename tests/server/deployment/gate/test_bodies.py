"""Bodies are read under bounds: on bytes at the first one, and on time."""

import asyncio
from collections.abc import Iterable

import pytest

from fedtransfer.server.deployment.gate import bodies
from fedtransfer.server.deployment.gate.bodies import Event, read, replay
from fedtransfer.server.deployment.gate.refusals import Refusal


class Connection:
    """Gives events, then nothing more; counts the bytes that were taken from it."""

    def __init__(self, parts: Iterable[bytes], *, ends: bool = True) -> None:
        parts = list(parts)
        self.events = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        if ends:
            self.events.append({"type": "http.request", "body": b"", "more_body": False})
        self.taken = 0

    async def receive(self) -> Event:
        if not self.events:
            await asyncio.Event().wait()
        event = self.events.pop(0)
        self.taken += len(event.get("body", b""))
        return event


def read_from(connection: Connection, length: int | None, most: int = 100) -> bytes:
    headers = {} if length is None else {"content-length": str(length)}
    return asyncio.run(read(connection.receive, headers, most))


def test_a_body_within_the_bound_is_read_whole_and_given_again() -> None:
    connection = Connection([b"ab", b"c"])
    assert read_from(connection, 3) == b"abc"
    again = replay(b"abc", connection.receive)
    assert asyncio.run(again()) == {"type": "http.request", "body": b"abc", "more_body": False}


@pytest.mark.parametrize("length", [101, -1, 10**12])
def test_a_length_beyond_the_bound_is_refused_at_the_first_byte(length: int) -> None:
    connection = Connection([b"x" * 101])
    with pytest.raises(Refusal, match="more than 100 bytes"):
        read_from(connection, length)
    assert connection.taken == 0


def test_a_body_without_a_length_is_refused_where_it_passes_the_bound() -> None:
    connection = Connection([b"x" * 60] * 10)
    with pytest.raises(Refusal, match="more than 100 bytes"):
        read_from(connection, None)
    assert connection.taken == 120


def test_a_slow_body_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "PAUSE_SECONDS", 0.02)
    with pytest.raises(Refusal, match="too slowly"):
        read_from(Connection([b"x"], ends=False), 50)
    monkeypatch.setattr(bodies, "LEAST_RATE", 10**6)

    async def drip() -> Event:  # a byte every now and then would hold a connection for ever
        await asyncio.sleep(0.005)
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(Refusal, match="too slowly"):
        asyncio.run(read(drip, {"content-length": "90"}, 100))
