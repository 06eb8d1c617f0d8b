"""The ClientApp: four short handlers. A site scores the head it receives before it trains, so a round is one message."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from client.place import Place, place_of
from client.preparation import Preparation
from client.site import Site, prepare_site
from client.trainer import Recipe, trainer
from common import wire
from common.backbone import configured_backbone
from common.config import RunConfig, Value
from common.config_reading import make_config
from common.errors import SiteError, UserError
from common.head import HeadSpec
from common.metrics import Counts, confusion_matrix
from common.protocol import Confusion, Description, Preparing, Query, Scores, Task, Update, classes_digest, weight_of
from common.seeds import generator

log = logging.getLogger(__name__)
app = ClientApp()

Predictions = tuple[NDArray[np.float32], NDArray[np.int64]]


@lru_cache(maxsize=8)
def _config(settings: tuple[tuple[str, Value], ...]) -> RunConfig:
    return make_config(dict(settings), "run config")


@lru_cache(maxsize=16384)
def _prepared(place: Place, settings: tuple[tuple[str, Value], ...], run: int) -> Site:
    """Prepare a site once a process and run; later messages of the run find it ready."""
    return prepare_site(place.images(), place.settings(_config(settings)), least_images=place.least_images)


@lru_cache(maxsize=2)
def _preparation(place: Place, settings: tuple[tuple[str, Value], ...], run: int) -> Preparation:
    """The same, in the background."""
    config = place.settings(_config(settings))
    return Preparation(lambda report: prepare_site(place.images(), config, report, place.least_images))


@dataclass(frozen=True)
class _Work:
    """What a handler works with, besides the message."""

    place: Place
    config: RunConfig
    run: int
    site: Site


def _answer(message: Message, context: Context, kind: type[Any], handle: Callable[[Any, _Work], Any]) -> Message:
    """Unpack, handle, pack; what goes wrong becomes a code and a text without data."""
    try:
        settings, run = tuple(context.run_config.items()), message.metadata.run_id
        asked = wire.unpack(message.content, kind)
        place = place_of(context.node_config, _config(settings))
        config = place.settings(_config(settings))
        place.refuse(config, message.metadata.message_type)
        if isinstance(asked, Query):
            _check_backbone(asked, config)  # before any image goes through the wrong one
        value = _when_ready(place, settings, run, lambda site: handle(asked, _Work(place, config, run, site)), asked)
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
    place: Place, settings: tuple[tuple[str, Value], ...], run: int, handle: Callable[[Site], Any], asked: Any
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
    return handle(site) if site else Preparing(preparation.done, preparation.total)


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
    return _answer(message, context, Task, _score)


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


def _describe(query: Query, work: _Work) -> Description:
    images = work.site.images_by_class()
    if query.classes and (unknown := sorted(set(images) - set(query.classes))):
        log.error(
            "the run has declared its classes, and %s %s not among them: %s; map them in site.toml, [classes], "
            'or keep them out there with ""',
            ", ".join(map(repr, unknown)), "is" if len(unknown) == 1 else "are", ", ".join(map(repr, query.classes)),
        )  # fmt: skip
        raise SiteError(
            "unknown-class",
            f"{len(unknown)} of the site's {len(images)} classes are not among the {len(query.classes)} that the run "
            "declares; the site's own log names them",
        )
    return Description(images, work.site.unreadable, work.place.partition)


def _kind(work: _Work, task: Task) -> tuple[HeadSpec, Recipe]:
    width = work.site.features["train"].shape[1]
    return HeadSpec.from_config(work.config, width, len(task.classes)), Recipe.from_config(work.config)


def _predict(task: Task, work: _Work) -> tuple[Predictions, Predictions]:
    """Return probabilities and class numbers of the site's validation and of its test images."""
    with trainer(*_kind(work, task)) as t:
        probabilities = t.predict(task.head, work.site.held_out)
    (_, validation), (_, test) = (work.site.data(split, task.classes) for split in ("validation", "test"))
    return (probabilities[: len(validation)], validation), (probabilities[len(validation) :], test)


def _stated(task: Task, work: _Work) -> tuple[int, str, str]:
    """What every scoring answer says of itself: round, backbone and class list."""
    return task.round, configured_backbone(work.config).fingerprint, classes_digest(task.classes)


def _score(task: Task, work: _Work) -> Scores:
    validation, test = _predict(task, work)
    return Scores(*_stated(task, work), Counts.of(*validation), Counts.of(*test))


def _train(task: Task, work: _Work) -> Update:
    scores = _score(task, work)
    x, y = work.site.data("train", task.classes)
    rng = generator(work.config.seed, "local training", task.round, task.site)
    spec, recipe = _kind(work, task)
    with trainer(spec, recipe) as t:
        head = t.train(task.head, x, y, rng, recipe.epochs, recipe.patience, work.site.data("validation", task.classes))
    weight = weight_of(task.weighting, len(y))
    total = tuple(
        (weight * (new.astype(np.float64) - old)).astype(np.float32) for new, old in zip(head, task.head, strict=True)
    )
    return Update(*_stated(task, work), scores.validation, scores.test, len(y), total)


def _finish(task: Task, work: _Work) -> Confusion:
    validation, test = _predict(task, work)
    work.place.keep(task, work.config, configured_backbone(work.config).fingerprint, work.run)
    return Confusion(*_stated(task, work), Counts.of(*validation), Counts.of(*test), confusion_matrix(*test))
