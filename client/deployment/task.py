"""One message of Flower's, done in the warm worker: what Flower's ``flwr-clientapp`` does in a process of its own.

The bundle that comes with the message is a name: its hash must be on the site's allow-list, and it is never unpacked.
What runs is the ClientApp that is installed here.
"""

import hashlib
import logging
import time
from collections.abc import Sequence
from typing import Any

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode, SubStatus
from flwr.supercore.fab import Fab
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from client.deployment.ledger import Ledger
from client.deployment.settings import SiteFolder
from common import protocol
from common.bundle import build_bundle
from common.errors import SiteError

log = logging.getLogger(__name__)

_UNANSWERED = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "the site's own log says why")


def do_task(site: SiteFolder, app: ClientApp, address: str, token: str) -> dict[str, Any]:
    """Fetch one message from SuperNode, answer it, and note in the ledger what leaves.

    Args:
        site: whose allow-list and ledger count.
        app: the installed ClientApp.
        address: of SuperNode's Runtime API, host:port.
        token: what SuperNode gave for this message.

    Returns:
        What was done, for the worker's log and ``fedtransfer client status``.
    """
    began = time.monotonic()
    client = RuntimeHttpClient.from_server_address(
        server_address=address,
        insecure=True,  # both ends are this machine
        root_certificates=None,
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"),
            RuntimeTokenHttpInterceptor(token),
        ],
        retry_invoker=make_simple_http_retry_invoker(),
    )
    heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
    heartbeat.start()
    context, failure = None, "the worker failed"
    try:
        message, context, run, bundle = pull_task_input(client)
        done = {
            "run": str(run.run_id),
            "round": _round(message),
            "method": str(context.run_config.get("strategy", "")),
        }
        try:
            reply = _answer(site, app, message, context, bundle)
            Ledger(site.ledger).write(reply, done)
        except Exception:  # without a reply SuperNode would wait for ever
            log.exception("the message is not answered, since what leaves could not be noted")
            reply = Message(_UNANSWERED, reply_to=message)
        push_message(client, reply, context)
        failure = ""
        return {"kind": message.metadata.message_type, **done, "seconds": round(time.monotonic() - began, 3)}
    finally:
        status = SubStatus.FAILED if failure else SubStatus.COMPLETED
        push_task_output(client=client, context=context, sub_status=status, details=failure)
        heartbeat.stop()
        client.close()


def _answer(site: SiteFolder, app: ClientApp, message: Message, context: Context, bundle: Fab) -> Message:
    """Have the installed app answer, if the bundle is one that the site answers."""
    digest = hashlib.sha256(bundle.content).hexdigest()
    allowed = allowed_bundles(site.settings.consent.bundles)
    if digest in allowed:
        return app(message, context)
    log.error("bundle %s is not on this site's allow-list (%s); nothing of it was unpacked", digest, ", ".join(allowed))
    refusal = SiteError(
        "other-bundle",
        f"this site answers bundle {allowed[0][:16]}… only, the run came with {digest[:16]}…; install the same "
        "version of fedtransfer on both sides",
    )
    return Message(protocol.pack(refusal), reply_to=message)


def allowed_bundles(listed: Sequence[str]) -> list[str]:
    """Return the hashes of an allow-list, with ``installed`` as that of the installed fedtransfer."""
    return [build_bundle()[1] if name == "installed" else name for name in listed]


def _round(message: Message) -> int | None:
    """Read a message's round for the ledger; None for a query, or for what is no message of ours."""
    try:
        return int(protocol.unpack(message.content, protocol.Task).round)
    except (protocol.ProtocolError, SiteError):
        return None
