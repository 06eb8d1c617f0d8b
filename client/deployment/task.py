"""One Flower message, answered in the warm worker, not a process of its own (``flwr-clientapp``).

The bundle that comes with the message only serves as a name: its hash must be on the site's
allow-list, and it is never unpacked. The ClientApp that runs is the installed one.
"""

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode, SubStatus
from flwr.supercore.fab import Fab
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.run import Run
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from fedtransfer.client.consent.countersignature import Countersignature
from fedtransfer.client.consent.exchange_log import KIND, ExchangeLog
from fedtransfer.client.deployment.renewal import pending_renewal
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.common.config.config import Value
from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.masks import messages
from fedtransfer.common.support.text import printable
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.bundle import build_bundle

log = logging.getLogger(__name__)

METHOD = 100  # characters of a run's methods in the log
RETRY_SECONDS = 10.0  # SuperNode is on this machine: if it does not answer, it is gone
_ROUNDS = (protocol.Task, protocol.Gather, protocol.Trial)  # with the next four, what belongs to a round
_STAGES = (messages.Invitation, messages.Peers, messages.Survivors, messages.Unmasking)
_UNANSWERED = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "the site's own log says why")


class Task:
    """A message at SuperNode, to be fetched and answered.

    ``address`` is SuperNode's Runtime API, host:port; ``token`` is its token for the message.
    """

    def __init__(self, site: SiteFolder, address: str, token: str) -> None:
        self._site, self._began = site, time.monotonic()
        interceptors = RuntimeVersionHttpInterceptor("flwr-clientapp"), RuntimeTokenHttpInterceptor(token)
        retry = make_simple_http_retry_invoker()
        retry.max_time = RETRY_SECONDS
        self._client = RuntimeHttpClient.from_server_address(
            server_address=address,
            insecure=True,  # both ends are this machine
            root_certificates=None,
            interceptors=interceptors,
            retry_invoker=retry,
        )
        self._heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(self._client))
        self._heartbeat.start()
        self._input: tuple[Message, Context, Run, Fab] | None = None

    def fetch(self) -> None:
        """Fetch the message with its run, settings and bundle; its arrays may never arrive."""
        self._input = pull_task_input(self._client)

    def answer(self, app: ClientApp) -> dict[str, Any]:
        """Have ``app`` answer, record the answer, and send it; return the facts of the task."""
        assert self._input
        message, context, _, bundle = self._input
        facts = facts_of(message, context)
        status, details = SubStatus.FAILED, "the worker failed"
        try:
            try:
                reply = recorded_answer(self._site, app, message, context, bundle)
            except Exception:  # such as a full disk: no answer leaves unrecorded, but SuperNode needs a reply
                log.exception("the message is answered with an error without details")
                reply = Message(_UNANSWERED, reply_to=message)
            push_message(self._client, reply, context)
            status, details = SubStatus.COMPLETED, ""
        finally:
            push_task_output(client=self._client, context=context, sub_status=status, details=details)
        return {
            "kind": printable(message.metadata.message_type, KIND),
            **facts,
            "seconds": round(time.monotonic() - self._began, 3),
        }

    def close(self) -> None:
        """Close the connection to SuperNode."""
        self._heartbeat.stop()
        self._client.close()


def recorded_answer(
    site: SiteFolder, app: ClientApp, message: Message, context: Context, bundle: Fab
) -> Message:
    """Have ``app`` answer a message, and record the answer in the site's log before it leaves.

    The message brings what the coordinator has of that log.

    Raises:
        OSError: the answer cannot be recorded.
    """
    Countersignature(site).receive(wire.stamped(message.content, wire.LOG))
    reply = _answer(site, app, message, context, bundle)
    if reply.has_content() and (renewal := pending_renewal(site)):
        wire.stamp(reply.content, wire.RENEWAL, renewal)
    ExchangeLog(site.exchange_log).write(reply, facts_of(message, context))
    return reply


def facts_of(message: Message, context: Context) -> dict[str, Any]:
    """Return the facts about a message for the log: its run, round and methods."""
    run, methods = str(message.metadata.run_id), _method(context.run_config)
    return {"run": run, "round": _round(message), "method": methods}


def _answer(site: SiteFolder, app: ClientApp, message: Message, context: Context, bundle: Fab) -> Message:
    """Have the installed app answer, if the site's present settings allow the bundle."""
    try:
        if message.metadata.src_node_id != SUPERLINK_NODE_ID:
            raise SiteError("other-source", "this site answers only its coordinator, not another node")
        # Flower accepts other spellings of the same message type.
        if message.metadata.message_type not in (*protocol.KINDS, *messages.KINDS):
            raise SiteError("other-message", "this site answers only messages of fedtransfer's protocol")
        allowed = allowed_bundles(SiteFolder.open(site.folder).settings.consent.bundles)
        if (digest := hashlib.sha256(bundle.content).hexdigest()) not in allowed:
            text = "bundle %s is not on this site's allow-list (%s); nothing of it was unpacked"
            log.error(text, digest, ", ".join(allowed))
            raise SiteError(
                "other-bundle",
                f"this site answers only bundle {allowed[0][:16]}…, the run came with {digest[:16]}…; "
                "install the same version of fedtransfer on both sides",
            )
        return app(message, context)
    except SiteError as error:
        refusal = error
    except UserError as error:
        log.error("%s", error)
        refusal = SiteError("unusable", "the site's settings cannot be used; the site's own log says why")
    return Message(wire.pack(refusal), reply_to=message)


def allowed_bundles(names: Sequence[str]) -> list[str]:
    """Return the hashes of an allow-list; ``installed`` becomes the installed fedtransfer's."""
    return [build_bundle()[1] if name == "installed" else name for name in names]


def _method(settings: Mapping[str, Value]) -> str:
    """Return a run's methods for the exchange log: its one-shot head, if any, and its strategy."""
    names = (settings.get("init"), settings.get("strategy"))
    return printable(", ".join(str(name) for name in names if name not in (None, "zeros")), METHOD)


def _round(message: Message) -> int | None:
    """Return a message's round for the exchange log; None for a query or a foreign message."""
    try:
        return int(wire.unpack(message.content, *_ROUNDS, *_STAGES).round)
    except (protocol.ProtocolError, SiteError):
        return None
