"""The ClientApp: four short handlers. A site scores the head it receives before it trains, so a round is one message."""

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from client.place import Place, place_of
from client.site import Site, prepare_site
from client.trainer import Recipe, trainer
from common import protocol
from common.backbone import configured_backbone
from common.config import RunConfig, Value, make_config
from common.errors import SiteError, UserError
from common.head import HeadSpec, save_head
from common.metrics import Counts, confusion_matrix
from common.protocol import Confusion, Description, Query, Scores, Task, Update, classes_digest, weight_of
from common.seeds import generator

log = logging.getLogger(__name__)
app = ClientApp()

Predictions = tuple[NDArray[np.float32], NDArray[np.int64]]


@lru_cache(maxsize=8)
def _config(settings: tuple[tuple[str, Value], ...]) -> RunConfig:
    return make_config(dict(settings), "run config")


@lru_cache(maxsize=16384)
def _prepared(data: str, settings: tuple[tuple[str, Value], ...], run: int) -> Site:
    """Prepare a site once a process and run; later messages of the run find it ready."""
    return prepare_site(data, _config(settings))


def _answer(
    message: Message, context: Context, kind: type[Any], handle: Callable[[Any, Place, RunConfig, Site], Any]
) -> Message:
    """Unpack, handle, pack; what goes wrong becomes a code and a text without data."""
    try:
        settings = tuple(context.run_config.items())
        config, asked = _config(settings), protocol.unpack(message.content, kind)
        place = place_of(context.node_config, config)
        if isinstance(asked, Query):
            _check_backbone(asked, config)  # before any image goes through the wrong one
        value = handle(asked, place, config, _prepared(place.data, settings, message.metadata.run_id))
    except SiteError as error:
        value = error
    except UserError as error:
        log.error("%s", error)
        value = SiteError("unusable", "the site's images or settings cannot be used; the site's own log says why")
    except Exception as error:
        log.exception("%s message failed", message.metadata.message_type)
        value = SiteError("internal", f"{type(error).__name__} at the site; the site's own log has the details")
    return Message(protocol.pack(value), reply_to=message)


@app.query()
def query(message: Message, context: Context) -> Message:
    """Check that the server means the same backbone, prepare the features, and describe the site."""
    return _answer(message, context, Query, _describe)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Score the head, fine-tune it on the site's images, and reply weight · delta and the counts."""
    return _answer(message, context, Task, _train)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Score a head on the site's validation and test images."""
    return _answer(message, context, Task, lambda task, place, config, site: _score(task, config, site))


@app.evaluate("finish")
def finish(message: Message, context: Context) -> Message:
    """Keep the run's best head at the site, and reply its confusion matrix on the site's test images."""
    return _answer(message, context, Task, _finish)


def _check_backbone(query: Query, config: RunConfig) -> None:
    own = configured_backbone(config)
    if own.fingerprint != query.fingerprint:
        raise SiteError(
            "backbone-differs",
            f"backbone {query.backbone} at {query.resolution} px: the server has fingerprint {query.fingerprint[:16]}…, "
            f"this site {own.fingerprint[:16]}…; install the same weights file on both sides",
        )


def _describe(query: Query, place: Place, config: RunConfig, site: Site) -> Description:
    return Description(site.images_by_class(), site.unreadable, place.partition)


def _kind(config: RunConfig, site: Site, task: Task) -> tuple[HeadSpec, Recipe]:
    return HeadSpec.from_config(config, site.features["train"].shape[1], len(task.classes)), Recipe.from_config(config)


def _predict(task: Task, config: RunConfig, site: Site) -> tuple[Predictions, Predictions]:
    """Return probabilities and class numbers of the site's validation and of its test images."""
    with trainer(*_kind(config, site, task)) as t:
        probabilities = t.predict(task.head, site.held_out)
    (_, validation), (_, test) = (site.data(split, task.classes) for split in ("validation", "test"))
    return (probabilities[: len(validation)], validation), (probabilities[len(validation) :], test)


def _stated(task: Task, config: RunConfig) -> tuple[int, str, str]:
    """What every scoring answer says of itself: round, backbone and class list."""
    return task.round, configured_backbone(config).fingerprint, classes_digest(task.classes)


def _score(task: Task, config: RunConfig, site: Site) -> Scores:
    validation, test = _predict(task, config, site)
    return Scores(*_stated(task, config), Counts.of(*validation), Counts.of(*test))


def _train(task: Task, place: Place, config: RunConfig, site: Site) -> Update:
    scores = _score(task, config, site)
    x, y = site.data("train", task.classes)
    rng = generator(config.seed, "local training", task.round, task.site)
    spec, recipe = _kind(config, site, task)
    with trainer(spec, recipe) as t:
        head = t.train(task.head, x, y, rng, recipe.epochs, recipe.patience, site.data("validation", task.classes))
    weight = weight_of(task.weighting, len(y))
    total = tuple(
        (weight * (new.astype(np.float64) - old)).astype(np.float32) for new, old in zip(head, task.head, strict=True)
    )
    return Update(*_stated(task, config), scores.validation, scores.test, len(y), total)


def _finish(task: Task, place: Place, config: RunConfig, site: Site) -> Confusion:
    validation, test = _predict(task, config, site)
    place.state.mkdir(parents=True, exist_ok=True)
    save_head(place.state / "head.npz", task.head, task.classes, configured_backbone(config).fingerprint)
    return Confusion(*_stated(task, config), Counts.of(*validation), Counts.of(*test), confusion_matrix(*test))
