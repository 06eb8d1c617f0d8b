"""The gate as an ASGI app before one that answers everything: who is let through, and with what."""

import asyncio
import base64
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message

from fedtransfer.common.wire.bundle import SOURCES_HEADER, sources_digest
from fedtransfer.server.deployment.attendance import FILE as ATTENDANCE
from fedtransfer.server.deployment.attendance import Attendance
from fedtransfer.server.deployment.gate.bodies import Event, Receive, Send
from fedtransfer.server.deployment.gate.gate import MOST_AT_ONCE, Gate
from fedtransfer.server.deployment.gate.refusals import Register, recent_refusals

KEY = ec.generate_private_key(ec.SECP384R1())
PEM = public_key_to_bytes(KEY.public_key())
BUNDLE = b"the installed bundle"
PULL = "/v1/fleet/pull-messages"


class SuperLink:
    """Answers every request that reaches it, once it may, and keeps their paths."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.status = 200
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        self.paths.append(scope["path"])
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Tables:
    """SuperLink's: one site, and one task's token."""

    def query(self, _: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"node_id": 8, "name": "anna"}] if values["key"] == PEM else []

    def get_task_by_token(self, token: str) -> object:
        return object() if token == "task" else None


def signed(key: ec.EllipticCurvePrivateKey = KEY) -> dict[str, str]:
    time = now().isoformat()
    public, signature = public_key_to_bytes(key.public_key()), sign_message(key, time.encode())
    return {
        "flwr-public-key": base64.b64encode(public).decode(), "flwr-timestamp": time,
        "flwr-signature": base64.b64encode(signature).decode(),
    }  # fmt: skip


@pytest.fixture
def locks() -> SimpleNamespace:
    return SimpleNamespace(lately=False)


@pytest.fixture
def gate(tmp_path: Path, locks: SimpleNamespace) -> Gate:
    register, attendance = Register(tmp_path), Attendance(tmp_path)
    return Gate(SuperLink(), Tables, "token", sha256(BUNDLE).hexdigest(), register, attendance, locks)  # type: ignore[arg-type]


def client(gate: Gate) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(gate)  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://gate", verify=False, trust_env=False)


def post(gate: Gate, path: str, body: bytes | AsyncIterator[bytes] = b"", **headers: str) -> httpx.Response:
    async def send() -> httpx.Response:
        async with client(gate) as sender:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await sender.post(path, content=body, headers=named)

    return asyncio.run(send())


def pull(node_id: int = 8) -> bytes:
    return PullMessagesRequest(node=Node(node_id=node_id)).SerializeToString()


def test_a_site_is_let_through_noted_and_told_the_version(gate: Gate, tmp_path: Path) -> None:
    answer = post(gate, PULL, pull(), **signed(), **{SOURCES_HEADER: "a" * 64})
    assert (answer.status_code, gate.app.paths) == (200, [PULL])
    assert answer.headers[SOURCES_HEADER] == sources_digest()
    assert '"anna": {"clock": 0, "sources": "aaaa' in (tmp_path / ATTENDANCE).read_text()


def test_nobody_without_an_enrolled_key_is_read(gate: Gate, tmp_path: Path) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    stranger = signed(ec.generate_private_key(ec.SECP384R1()))
    stolen = {**stranger, "flwr-public-key": base64.b64encode(PEM).decode()}
    for headers in ({}, {"flwr-public-key": "?"}, stranger, stolen):
        assert post(gate, PULL, body(), **headers).status_code == 401
    assert gate.app.paths == []
    assert [entry["site"] for entry in recent_refusals(tmp_path)] == [""]


def test_a_site_is_refused_by_name(gate: Gate, tmp_path: Path) -> None:
    for body in (pull(9), b"\xff", pull() + bytes(10_000)):
        assert post(gate, PULL, body, **signed()).status_code == 403
    assert {(entry["site"], entry["why"]) for entry in recent_refusals(tmp_path)} == {
        ("anna", "gave another site's number"), ("anna", "sent a request that cannot be read"),
        ("anna", "sent a request of more than 8192 bytes"),
    }  # fmt: skip


def test_what_nobody_needs_is_not_served(gate: Gate, tmp_path: Path) -> None:
    for path in (
        "/",
        "/docs",
        "/v1/fleet/register-node",
        "/v1/control/start-automation",
        "/v1/runtime/create-task",
    ):
        assert post(gate, path, **signed(), authorization="Bearer token").status_code == 404
    assert gate.app.paths == []
    assert recent_refusals(tmp_path) == [], "a site's check of the way here is no attack"


def test_the_coordinator_shows_its_token_and_starts_its_bundle(gate: Gate) -> None:
    digest = sha256(BUNDLE).hexdigest()
    start = StartRunRequest(fab=Fab(hash_str=digest, content=BUNDLE)).SerializeToString()
    evil = StartRunRequest(fab=Fab(hash_str=digest, content=b"evil")).SerializeToString()
    path = "/v1/control/start-run"
    assert post(gate, path, start).status_code == 401
    assert post(gate, path, start, authorization="Bearer other").status_code == 401
    assert post(gate, path, evil, authorization="Bearer token").status_code == 403
    assert post(gate, path, start, authorization="Bearer token").status_code == 200
    assert post(gate, "/v1/runtime/get-nodes").status_code == 401
    assert post(gate, "/v1/runtime/get-nodes", flwr_task_token="task").status_code == 200
    assert gate.app.paths == [path, "/v1/runtime/get-nodes"]


def test_a_locked_database_is_tried_again(gate: Gate, locks: SimpleNamespace) -> None:
    gate.app.status = 500
    assert post(gate, PULL, pull(), **signed()).status_code == 500
    locks.lately = True
    assert post(gate, PULL, pull(), **signed()).status_code == 503


def test_one_site_makes_few_requests_at_once(gate: Gate) -> None:
    async def flood() -> list[int]:
        gate.app.may_answer = asyncio.Event()
        async with client(gate) as sender:
            tasks = [
                asyncio.create_task(sender.post(PULL, content=pull(), headers=signed())) for _ in range(12)
            ]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            while len(done) < 12 - MOST_AT_ONCE:
                done, _ = await asyncio.wait(tasks, timeout=0.05)
            gate.app.may_answer.set()
            return [(await task).status_code for task in tasks]

    statuses = asyncio.run(flood())
    assert (statuses.count(200), statuses.count(503)) == (MOST_AT_ONCE, 12 - MOST_AT_ONCE)
