"""One message of Flower's, done in the warm worker: what Flower's ``flwr-clientapp`` does in a process of its own.

The bundle that comes with the message is a name: its hash must be on the site's allow-list, and it is never unpacked.
What runs is the ClientApp that is installed here.
"""

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode, SubStatus
from flwr.supercore.fab import Fab
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.run import Run
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from fedtransfer.client.deployment.exchange_log import ExchangeLog
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.common.config.config import Value
from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.masks import messages
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.bundle import build_bundle

log = logging.getLogger(__name__)

RETRY_SECONDS = 10.0  # SuperNode is on this machine: if it does not answer, it is gone
_ROUNDS = (  # what says to which round it belongs
    protocol.Task, protocol.Gather, protocol.Trial, messages.Invitation, messages.Peers, messages.Survivors, messages.Unmasking,
)  # fmt: skip
_UNANSWERED = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "the site's own log says why")


class Task:
    """A message at SuperNode, to be fetched and answered.

    Args:
        site: whose allow-list and exchange log count.
        address: of SuperNode's Runtime API, host:port.
        token: what SuperNode gave for this message.
    """

    def __init__(self, site: SiteFolder, address: str, token: str) -> None:
        self._site, self._began = site, time.monotonic()
        retry = make_simple_http_retry_invoker()
        retry.max_time = RETRY_SECONDS
        self._client = RuntimeHttpClient.from_server_address(
            server_address=address,
            insecure=True,  # both ends are this machine
            root_certificates=None,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"),
                RuntimeTokenHttpInterceptor(token),
            ],
            retry_invoker=retry,
        )
        self._heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(self._client))
        self._heartbeat.start()
        self._input: tuple[Message, Context, Run, Fab] | None = None

    def fetch(self) -> None:
        """Fetch the message with its run, settings and bundle; waits for its arrays, which may never come."""
        self._input = pull_task_input(self._client)

    def answer(self, app: ClientApp) -> dict[str, Any]:
        """Have ``app`` answer, note in the exchange log what leaves, and hand it to SuperNode; return what was done."""
        assert self._input
        message, context, run, bundle = self._input
        done = {
            "run": str(run.run_id),
            "round": _round(message),
            "method": _method(context.run_config),
        }
        status, details = SubStatus.FAILED, "the worker failed"
        try:
            try:
                reply = _answer(self._site, app, message, context, bundle)
                ExchangeLog(self._site.exchange_log).write(reply, done)
            except (
                Exception
            ):  # such as a full disk, for what is not noted does not leave; but without any reply SuperNode waits
                log.exception("the message is answered with an error that says nothing")
                reply = Message(_UNANSWERED, reply_to=message)
            push_message(self._client, reply, context)
            status, details = SubStatus.COMPLETED, ""
        finally:
            push_task_output(client=self._client, context=context, sub_status=status, details=details)
        return {"kind": message.metadata.message_type, **done, "seconds": round(time.monotonic() - self._began, 3)}

    def close(self) -> None:
        """Let go of SuperNode."""
        self._heartbeat.stop()
        self._client.close()


def _answer(site: SiteFolder, app: ClientApp, message: Message, context: Context, bundle: Fab) -> Message:
    """Have the installed app answer, if the bundle is one that the site answers by its settings of this moment."""
    try:
        if message.metadata.message_type not in (
            *protocol.KINDS,
            *messages.KINDS,
        ):  # Flower knows other spellings of the same
            raise SiteError("other-message", "this site answers the messages of fedtransfer's protocol only")
        _refuse_other_bundle(SiteFolder.open(site.folder), hashlib.sha256(bundle.content).hexdigest())
        return app(message, context)
    except SiteError as error:
        refusal = error
    except UserError as error:
        log.error("%s", error)
        refusal = SiteError("unusable", "the site's settings cannot be used; the site's own log says why")
    return Message(wire.pack(refusal), reply_to=message)


def _refuse_other_bundle(site: SiteFolder, digest: str) -> None:
    allowed = allowed_bundles(site.settings.consent.bundles)
    if digest not in allowed:
        log.error(
            "bundle %s is not on this site's allow-list (%s); nothing of it was unpacked", digest, ", ".join(allowed)
        )
        raise SiteError(
            "other-bundle",
            f"this site answers bundle {allowed[0][:16]}… only, the run came with {digest[:16]}…; install the same "
            "version of fedtransfer on both sides",
        )


def allowed_bundles(listed: Sequence[str]) -> list[str]:
    """Return the hashes of an allow-list, with ``installed`` as that of the installed fedtransfer."""
    return [build_bundle()[1] if name == "installed" else name for name in listed]


def _method(settings: Mapping[str, Value]) -> str:
    """Read a run's methods for the exchange log: the one-shot head that it begins with, if any, and its strategy."""
    return ", ".join(
        str(name) for name in (settings.get("init"), settings.get("strategy")) if name not in (None, "zeros")
    )


def _round(message: Message) -> int | None:
    """Read a message's round for the exchange log; None for a query, or for a message of another kind than ours."""
    try:
        return int(wire.unpack(message.content, *_ROUNDS).round)
    except (protocol.ProtocolError, SiteError):
        return None
