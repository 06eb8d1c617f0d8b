"""The ClientApp: short handlers. A site scores the head it receives before it trains, so a round is one message."""

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedtransfer.client import tasks as work
from fedtransfer.client.consent.ledger import charge_reply
from fedtransfer.client.consent.limits import refuse_beyond
from fedtransfer.client.data import Site, prepare_site
from fedtransfer.client.masking.masking import Masking
from fedtransfer.client.masking.secrets import Safe, Steps
from fedtransfer.client.node import Node
from fedtransfer.client.node_lookup import find_node
from fedtransfer.client.preparation import Preparation
from fedtransfer.client.tasks import Work
from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import RunConfig, Value
from fedtransfer.common.config.reading import make_config
from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.masks import messages
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.protocol import Gather, Preparing, Query, Request, Task, Trial

log = logging.getLogger(__name__)
app = ClientApp()
_steps = Steps()  # of masks, in this process


@lru_cache(maxsize=8)
def _config(settings: tuple[tuple[str, Value], ...]) -> RunConfig:
    return make_config(dict(settings), "run config")


@lru_cache(maxsize=16384)
def _prepared(place: Node, settings: tuple[tuple[str, Value], ...], run: int) -> Site:
    """Prepare a site once a process and run; later messages of the run find it ready."""
    return prepare_site(place.images(), place.settings(_config(settings)), least_images=place.least_images)


@lru_cache(maxsize=2)
def _preparation(place: Node, settings: tuple[tuple[str, Value], ...], run: int) -> Preparation:
    """The same, in the background."""
    config = place.settings(_config(settings))
    return Preparation(lambda report: prepare_site(place.images(), config, report, place.least_images))


def forget_sites() -> None:
    """Let go of prepared sites with their features: those of a run that is over are of no use to the next."""
    _prepared.cache_clear()
    _preparation.cache_clear()


def _answer(
    message: Message, context: Context, kind: type[Any], handle: Callable[[Any, Work], Any] | None = None
) -> Message:
    """Unpack, handle, pack; what goes wrong becomes a code and a text without data."""
    try:
        settings, run = tuple(context.run_config.items()), message.metadata.run_id
        asked = wire.unpack(message.content, kind)
        place = find_node(context.node_config, _config(settings))
        config = place.settings(_config(settings))
        what = message.metadata.message_type
        place.refuse(config, what)
        masking = Masking(Safe(context.state, _steps), place, config)
        if isinstance(asked, Query):
            _check_backbone(asked, config)  # before any image goes through the wrong one
        elif isinstance(asked, Request):
            refuse_beyond(asked, what, config)

        def answer() -> Any:
            assert handle
            return _when_ready(place, settings, run, lambda site: handle(asked, Work(place, config, run, site)), asked)

        if handle is None:
            value = masking.answer(asked)
        elif config.masks and isinstance(asked, Request):
            value = masking.masked(asked, what, answer)
        else:
            value = answer()
        if isinstance(asked, Request):
            charge_reply(place.ledger, config, what, str(run), asked)
    except SiteError as error:
        value = error
    except UserError as error:
        log.error("%s", error)
        value = SiteError("unusable", "the site's images or settings cannot be used; the site's own log says why")
    except Exception as error:
        log.exception("%s message failed", message.metadata.message_type)
        value = SiteError("internal", f"{type(error).__name__} at the site; the site's own log has the details")
    return Message(wire.pack(value), reply_to=message)


def _when_ready(
    place: Node, settings: tuple[tuple[str, Value], ...], run: int, handle: Callable[[Site], Any], asked: Any
) -> Any:
    """Handle a message with the prepared site; a query that would wait long is told how far the site is instead."""
    if place.patience is None:
        return handle(_prepared(place, settings, run))
    preparation = _preparation(place, settings, run)
    try:
        site = preparation.site(place.patience if isinstance(asked, Query) else None)
    except Exception:
        _preparation.cache_clear()  # the site's people may mend it, so it is tried again when asked again
        raise
    if site:
        return handle(site)
    hidden = _config(settings).hides_counts  # how many images there are, as well as how fast they go by
    return Preparing(0, 0) if hidden else Preparing(preparation.done, preparation.total)


@app.query()
def query(message: Message, context: Context) -> Message:
    """Check that the server means the same backbone, prepare the features, and describe the site."""
    return _answer(message, context, Query, work.describe)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Score the head, fine-tune it on the site's images, and reply weight · change and the counts."""
    return _answer(message, context, Task, work.train)


@app.train("gather")
def gather(message: Message, context: Context) -> Message:
    """Sum the features of the site's training images."""
    return _answer(message, context, Gather, work.gather)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Score a head on the site's validation and test images."""
    return _answer(message, context, Task, work.score)


@app.evaluate("trial")
def trial(message: Message, context: Context) -> Message:
    """Score several heads at once."""
    return _answer(message, context, Trial, work.trial)


@app.evaluate("personal")
def personal(message: Message, context: Context) -> Message:
    """Make the run's best head the site's own, keep that, and say how it does."""
    return _answer(message, context, Task, work.personal)


@app.evaluate("finish")
def finish(message: Message, context: Context) -> Message:
    """Keep the run's best head at the site, and reply its confusion matrix on the site's test images."""
    return _answer(message, context, Task, work.finish)


@app.query("keys")
def keys(message: Message, context: Context) -> Message:
    """Make keys for an answer under masks."""
    return _answer(message, context, messages.Invitation)


@app.query("peers")
def peers(message: Message, context: Context) -> Message:
    """Share the secrets of one's masks with those that one shares masks with."""
    return _answer(message, context, messages.Peers)


@app.query("survivors")
def survivors(message: Message, context: Context) -> Message:
    """Agree to whose answers are added up."""
    return _answer(message, context, messages.Survivors)


@app.query("unmask")
def unmask(message: Message, context: Context) -> Message:
    """Show shares, by which the total is unmasked."""
    return _answer(message, context, messages.Unmasking)


def _check_backbone(query: Query, config: RunConfig) -> None:
    own = configured_backbone(config)
    if own.fingerprint != query.fingerprint:
        raise SiteError(
            "backbone-differs",
            f"backbone {query.backbone} at {query.resolution} px: the server has fingerprint {query.fingerprint[:16]}…, "
            f"this site {own.fingerprint[:16]}…; install the same weights file, and the same feature statistics, on both sides",
        )
