"""The gate itself, an ASGI app around SuperLink's: check, then pass on or refuse."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from flwr.proto.fleet_pb2 import PushMessagesResponse
from flwr.proto.message_pb2 import ConfirmMessageReceivedResponse
from google.protobuf.message import DecodeError
from sqlalchemy.exc import OperationalError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from fedtransfer.common.wire.bundle import SOURCES_HEADER, sources_digest
from fedtransfer.server.deployment.attendance import Attendance
from fedtransfer.server.deployment.gate import doors, identity
from fedtransfer.server.deployment.gate.answers import (
    TooLarge,
    TooLate,
    Uploads,
    check_answer,
    may_confirm,
)
from fedtransfer.server.deployment.gate.bodies import Disconnected, Event, Receive, Send, answer, read, replay
from fedtransfer.server.deployment.gate.database import Locks
from fedtransfer.server.deployment.gate.doors import DOORS, Door
from fedtransfer.server.deployment.gate.identity import ForeignClock, Site
from fedtransfer.server.deployment.gate.refusals import (
    BUSY,
    FAILED,
    FORBIDDEN,
    NOT_OPEN,
    Refusal,
    Register,
)
from fedtransfer.server.deployment.gate.replacement import answer_instead, drop_answer

log = logging.getLogger(__name__)

MOST_AT_ONCE = 8  # requests of one site; SuperNode makes at most four
_PROTOBUF, _JSON = "application/protobuf", "application/json"
_SMALL = 64 * 2**10  # a refused body of this size is read to its end, and the connection lives on


@dataclass
class Gate:
    """An ASGI app that passes to ``app`` what fits.

    Attributes:
        app: SuperLink's.
        state: returns SuperLink's state.
        token: of the coordinator's user.
        bundle: hash of the only bundle that is started.
        register: of refusals.
        attendance: clocks and versions of sites.
        locks: on the database.
    """

    app: Any
    state: Callable[[], Any]
    token: str
    bundle: str
    register: Register
    attendance: Attendance
    locks: Locks
    uploads: Uploads = field(default_factory=Uploads)
    _version: tuple[bytes, bytes] = field(
        default_factory=lambda: (SOURCES_HEADER.encode(), sources_digest().encode())
    )
    _at_once: Counter[int] = field(default_factory=Counter)  # node id → requests under way

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """Serve a connection as ASGI says."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Event, receive: Receive, send: Send) -> None:
        headers, name, send = Headers(scope=scope), "", self._responding(send)
        door = DOORS.get(scope["path"])
        try:
            if door is None or scope["method"] != "POST":
                raise Refusal(NOT_OPEN, "asked for what is not served here")
            if door.users == doors.SITES:
                site = await run_in_threadpool(self._identify, headers)
                name = site.name
                await self._serve_site(site, door, scope, receive, send, headers)
                return
            if door.users == doors.COORDINATOR:
                identity.check_coordinator(headers, self.token)
            elif door.users == doors.TASKS:
                await run_in_threadpool(identity.check_task, headers, self.state())
            if door.users != doors.TASKS:
                body = await read(receive, headers, door.most)
                if scope["path"] == doors.START_RUN:
                    self._check_bundle(_parse(door, body))
                receive = replay(body, receive)
            await self.app(scope, receive, send)
        except Disconnected:
            return
        except OperationalError:
            await answer(send, BUSY, _JSON, Refusal(BUSY, "SuperLink's database is locked").body, close=True)
        except Refusal as refusal:
            name = refusal.site.name if isinstance(refusal, ForeignClock) else name
            log.warning("refused: %s: %s", name or "nobody who is enrolled", refusal.text)
            # A site's check asks for "/", and a ServerApp that SuperLink gave up for its task.
            if door and door.users != doors.TASKS:
                await run_in_threadpool(self.register.note, name, refusal.text)
            length = headers.get("content-length", "")
            close = not (length.isdigit() and int(length) <= _SMALL)
            await answer(send, refusal.status, _JSON, refusal.body, close=close)

    def _identify(self, headers: Headers) -> Site:
        try:
            site = identity.site_of(headers, self.state())
        except ForeignClock as refusal:
            self.attendance.note(refusal.site.name, headers)
            raise
        self.attendance.note(site.name, headers)
        return site

    def _responding(self, send: Send) -> Send:
        """Name this version, and turn a failure that will pass into one that is tried again."""

        async def respond(event: Event) -> None:
            if event["type"] == "http.response.start":
                event["headers"] = [*event.get("headers", ()), self._version]
                if event["status"] == FAILED and self.locks.lately:
                    event["status"] = BUSY
            await send(event)

        return respond

    async def _serve_site(
        self, site: Site, door: Door, scope: Event, receive: Receive, send: Send, headers: Headers
    ) -> None:
        if self._at_once[site.node_id] >= MOST_AT_ONCE:
            raise Refusal(BUSY, f"made more than {MOST_AT_ONCE} requests at once")
        self._at_once[site.node_id] += 1
        try:
            path = scope["path"]
            if path == doors.PUSH_OBJECT:
                body = await self._read_object(site, door, receive, headers)
            else:
                body = await read(receive, headers, door.most)
            request = _parse(door, body)
            if hasattr(request, "node") and request.node.node_id != site.node_id:
                raise Refusal(FORBIDDEN, "gave another site's number")
            handle = {
                doors.PUSH_MESSAGES: self._push_messages,
                doors.PUSH_OBJECT: self._push_object,
                doors.CONFIRM: self._confirm,
            }.get(path, self._pass)
            await handle(site, request, scope, replay(body, receive), send)
        finally:
            self._at_once[site.node_id] -= 1
            if not self._at_once[site.node_id]:
                del self._at_once[site.node_id]

    async def _read_object(self, site: Site, door: Door, receive: Receive, headers: Headers) -> bytes:
        """Read an object that fits into the largest answer that is on its way from the site."""
        largest = self.uploads.largest(site)
        if not largest:
            raise Refusal(FORBIDDEN, "sent an object that it had not announced")
        try:
            return await read(receive, headers, min(door.most, largest + _SMALL))
        except Refusal as refusal:
            if refusal.status == FORBIDDEN:
                for upload in self.uploads.cut(site):
                    await run_in_threadpool(self._drop, TooLarge(upload))
            raise

    def _drop(self, refusal: TooLarge) -> None:
        drop_answer(self.state(), refusal.upload.root)
        answer_instead(self.state(), refusal.upload.site, refusal)

    async def _pass(self, _site: Site, _request: Any, scope: Event, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    async def _push_messages(
        self, site: Site, request: Any, scope: Event, receive: Receive, send: Send
    ) -> None:
        try:
            for message in request.messages_list:
                self.uploads.check_first(site, message.metadata)
                session, missing = self.uploads.resume(site, message.metadata.message_id)
                if session:
                    await answer(send, 200, _PROTOBUF, _announced(request, session, missing))
                    return
            upload = await run_in_threadpool(check_answer, site, request, self.state())
        except TooLate:
            await answer(send, 200, _PROTOBUF, _announced(request))
            return
        except Refusal as refusal:
            if refusal.instruction:
                self.uploads.note_answer(site, refusal.instruction)
                await run_in_threadpool(answer_instead, self.state(), site, refusal)
            raise
        events: list[Event] = []  # until the upload is added: its first object may come at once

        async def collect(event: Event) -> None:
            events.append(event)

        await self.app(scope, receive, collect)
        if events[0]["status"] == 200:
            body = b"".join(event.get("body", b"") for event in events[1:])
            response = PushMessagesResponse.FromString(body)
            upload.missing = frozenset(response.objects_to_push)
            self.uploads.note_answer(site, upload.instruction, upload.root)
            self.uploads.add(response.session_id, upload)
        for event in events:
            await send(event)

    async def _push_object(
        self, site: Site, request: Any, scope: Event, receive: Receive, send: Send
    ) -> None:
        try:
            self.uploads.take(site, request)
        except TooLarge as refusal:
            await run_in_threadpool(self._drop, refusal)
            raise
        await self.app(scope, receive, send)
        self.uploads.complete(request.session_id)

    async def _confirm(self, site: Site, request: Any, scope: Event, receive: Receive, send: Send) -> None:
        if await run_in_threadpool(may_confirm, site, request, self.state()):
            await self.app(scope, receive, send)
        else:
            await answer(send, 200, _PROTOBUF, ConfirmMessageReceivedResponse().SerializeToString())

    def _check_bundle(self, request: Any) -> None:
        if request.app_spec or sha256(request.fab.content).hexdigest() != self.bundle:
            raise Refusal(FORBIDDEN, "asked to start another bundle than that of the installed fedtransfer")


def _announced(request: Any, session: str = "", missing: Sequence[str] = ()) -> bytes:
    """Return SuperLink's reply to an announcement, with the objects that are still to come."""
    results = {message.metadata.message_id: 0 for message in request.messages_list}
    return PushMessagesResponse(
        results=results, objects_to_push=missing, session_id=session
    ).SerializeToString()


def _parse(door: Door, body: bytes) -> Any:
    try:
        return door.kind.FromString(body)
    except DecodeError:
        raise Refusal(FORBIDDEN, "sent a request that cannot be read") from None
