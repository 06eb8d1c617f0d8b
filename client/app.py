"""The ClientApp: a short handler for each kind of message.

A site scores the head that it receives before it trains on it, so a round is one message.
"""

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedtransfer.client import tasks
from fedtransfer.client.consent.ledger import charge_reply
from fedtransfer.client.consent.refusals import refuse_beyond
from fedtransfer.client.data import Preparation, SiteData
from fedtransfer.client.masking.masking import Masking
from fedtransfer.client.masking.secrets import Safe, Steps
from fedtransfer.client.node import DeployedNode, Node, deployed_node
from fedtransfer.client.tasks import Site
from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import RunConfig, Value, make_config
from fedtransfer.common.data.feature_card import backbone_words, card_of
from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.features.ready_made import difference
from fedtransfer.common.masks import messages
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.protocol import Gather, Preparing, Query, Request, Task, Trial
from fedtransfer.common.wire.texts import check_settings

log = logging.getLogger(__name__)

Handler = Callable[[Any, Site], Any]
Settings = tuple[tuple[str, Value], ...]  # a run config that can be a key of a cache

_steps = Steps()  # steps of secure aggregation that this process has made


def find_node(node_config: Mapping[str, Value], config: RunConfig) -> Node:
    """Find a node from its node config and the run config.

    Raises:
        SiteError: neither names a site.
    """
    if "site" in node_config:
        return deployed_node(str(node_config["site"]))
    if "data" in node_config:
        return Node(str(node_config["data"]), Path(str(node_config["state"])))
    if "partition-id" not in node_config or not config.prepared:
        raise SiteError(
            "no-data",
            "the node config names no site, and the run config no prepared folder; start the node with "
            "fedtransfer client start, or give prepared=DIR as `fedtransfer simulate --prepare DIR` says",
        )
    names, number = _prepared_sites(config.prepared), int(node_config["partition-id"])
    if len(names) != int(node_config["num-partitions"]):
        raise SiteError(
            "other-size",
            f"{len(names)} sites are prepared, but the federation has {node_config['num-partitions']} nodes; "
            f"run it with num-supernodes={len(names)}",
        )
    folder = Path(config.prepared) / "sites" / names[number]
    return Node(str(folder / "images.csv"), folder, names[number])


@lru_cache(maxsize=4)
def _prepared_sites(prepared: str) -> tuple[str, ...]:
    return tuple(sorted(path.parent.name for path in Path(prepared).glob("sites/*/images.csv")))


@lru_cache(maxsize=8)
def _config(settings: Settings) -> RunConfig:
    check_settings(dict(settings))
    return make_config(dict(settings), "run config")


@lru_cache(maxsize=16384)
def _prepared(node: Node, settings: Settings, run: int) -> SiteData:
    """Prepare a site once per process and run, for all messages of the run."""
    return node.prepare(node.settings(_config(settings)))


@lru_cache(maxsize=2)
def _preparation(node: Node, settings: Settings, run: int) -> Preparation:
    """Prepare a site once per process and run, in the background."""
    config = node.settings(_config(settings))
    return Preparation(lambda report: node.prepare(config, report))


def make_app(sites: Mapping[str, SiteData] | None = None) -> ClientApp:
    """Make the ClientApp.

    Args:
        sites: what a node's ``data`` names → these images and features, if this process has
            prepared them already. All else is read and extracted on first use.
    """
    app, sites = ClientApp(), sites or {}

    def register(route: Callable[..., Any], kind: type[Any], handle: Handler | None = None) -> None:
        """Register a route with its handler; without one it is a stage of secure aggregation."""
        route(lambda message, context: _answer(message, context, kind, handle, sites))

    register(app.query(), Query, tasks.describe)
    register(app.train(), Task, tasks.train)
    register(app.train("gather"), Gather, tasks.gather)
    register(app.evaluate(), Task, tasks.score)
    register(app.evaluate("trial"), Trial, tasks.trial)
    register(app.evaluate("personal"), Task, tasks.personal)
    register(app.evaluate("finish"), Task, tasks.finish)
    register(app.query("keys"), messages.Invitation)
    register(app.query("peers"), messages.Peers)
    register(app.query("survivors"), messages.Survivors)
    register(app.query("unmask"), messages.Unmasking)
    return app


def _answer(
    message: Message, context: Context, kind: type[Any], handle: Handler | None, sites: Mapping[str, SiteData]
) -> Message:
    """Unpack, handle, pack. A failure becomes a code and a text without data."""
    try:
        settings, run = tuple(context.run_config.items()), message.metadata.run_id
        request = wire.unpack(message.content, kind)
        node = find_node(context.node_config, _config(settings))
        config = node.settings(_config(settings))
        message_type = message.metadata.message_type
        node.refuse(config, message_type)
        masking = Masking(Safe(context.state, _steps), node, config)
        if isinstance(request, Query):
            _check_backbone(request, config, node)  # before any image passes through the wrong backbone
        elif isinstance(request, Request):
            refuse_beyond(request, message_type, config)
        node.pin(run, context.run_config, request)  # last, so that a refused message pins nothing

        def answer() -> Any:
            assert handle
            data = sites.get(node.data) or _site_data(node, settings, run, isinstance(request, Query))
            return data if isinstance(data, Preparing) else handle(request, Site(node, config, run, data))

        if handle is None:
            value = masking.answer(request)
        elif config.masks and isinstance(request, Request):
            value = masking.mask(request, message_type, answer)
        else:
            value = answer()
        if isinstance(request, Request) and config.private:
            charge_reply(node.ledger, config, message_type, str(run), request)
    except SiteError as error:
        value = error
    except UserError as error:
        log.error("%s", error)
        value = SiteError(
            "unusable", "the site's images or settings cannot be used; the site's own log says why"
        )
    except Exception as error:
        log.exception("%s message failed", message.metadata.message_type)
        name = type(error).__name__
        value = SiteError("internal", f"{name} at the site; the site's own log has the details")
    return Message(wire.pack(value), reply_to=message)


def _site_data(node: Node, settings: Settings, run: int, is_query: bool) -> SiteData | Preparing:
    """Return the prepared site, or its progress for a query that would wait long."""
    if node.patience is None:
        return _prepared(node, settings, run)
    preparation = _preparation(node, settings, run)
    try:
        data = preparation.data(node.patience if is_query else None)
    except Exception:
        _preparation.cache_clear()  # the site's people may mend it, so the next message tries again
        raise
    if data:
        return data
    hidden = _config(settings).hides_counts  # progress reveals the number of images
    return Preparing(0, 0) if hidden else Preparing(preparation.done, preparation.total)


def _check_backbone(query: Query, config: RunConfig, node: Node) -> None:
    backbone, card = configured_backbone(config), node.card()
    if card and (why := difference(card, backbone, query.resolution)):
        raise SiteError("backbone-differs", f"this site has {why}")
    expected = card_of(query.backbone)
    if expected and expected.version and not card and isinstance(node, DeployedNode):
        node.images()  # raises if there are no data: that is the reason then
        raise SiteError(
            "backbone-differs",
            f"the run is on ready-made features of {expected}; this site's data do not say what made them, "
            "or are images. If some sites have images, the run must name the network",
        )
    if backbone.fingerprint != query.fingerprint:
        raise SiteError(
            "backbone-differs",
            f"backbone {backbone_words(query.backbone, query.resolution)}: the server has fingerprint "
            f"{query.fingerprint[:16]}…, this site {backbone.fingerprint[:16]}…; install the same weights "
            "file, and the same feature statistics, on both sides",
        )


app = make_app()
