"""What a site does with each kind of request, once its features are ready."""

import logging
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedtransfer.client.data import SPLITS, Site
from fedtransfer.client.node import Node
from fedtransfer.client.state import SiteState
from fedtransfer.client.training.personal import make_personal
from fedtransfer.client.training.scaffold import correction, local_steps, next_control
from fedtransfer.client.training.statistics import released_sums, site_sums
from fedtransfer.client.training.trainer import Recipe
from fedtransfer.client.training.trainers import trainer
from fedtransfer.client.training.updates import private_update, trained, weighted_change
from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import SiteError
from fedtransfer.common.head.head import Arrays, HeadSpec, mix
from fedtransfer.common.head.metrics import Counts, confusion_matrix, cross_entropy
from fedtransfer.common.head.spec import head_spec
from fedtransfer.common.privacy.randomness import secret_generator
from fedtransfer.common.wire.protocol import (
    CONTROL,
    MOMENTS,
    Confusion,
    Description,
    Gather,
    Personal,
    Query,
    Request,
    Scores,
    Sums,
    Tally,
    Task,
    Trial,
    Update,
    classes_digest,
    weight_of,
)

log = logging.getLogger(__name__)

Predictions = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class Work:
    """What a request is answered with.

    Attributes:
        place: the site's place.
        config: the run's settings, as they are here.
        run: Flower's number for the run.
        site: the site's data.
    """

    place: Node
    config: RunConfig
    run: int
    site: Site


def describe(query: Query, work: Work) -> Description:
    """Say what the site has.

    Raises:
        SiteError: it has a class that the run does not declare.
    """
    if work.config.dp == "image":  # nor may a refusal tell of an image
        return Description({}, 0, work.place.partition)
    images = work.site.images_by_class()
    if query.classes and (unknown := sorted(set(images) - set(query.classes))):
        log.error(
            "the run has declared its classes, and %s %s not among them: %s; map them in site.toml, [classes], "
            'or keep them out there with ""',
            ", ".join(map(repr, unknown)), "is" if len(unknown) == 1 else "are", ", ".join(map(repr, query.classes)),
        )  # fmt: skip
        raise SiteError(
            "unknown-class",
            f"the site has a class that is not among the {len(query.classes)} that the run declares; the site's own log "
            "names it",
        )
    if work.config.hides_counts:
        return Description({}, 0, work.place.partition)
    return Description(images, work.site.unreadable, work.place.partition)


def score(task: Task, work: Work) -> Scores:
    """Score a head on the site's validation and test images; under differential privacy nothing is told of them."""
    if work.config.private:
        nothing = Counts.empty(len(task.classes))
        return Scores(*_stated(task, work), nothing, nothing)
    validation, test = _predict(task, work)
    return Scores(*_stated(task, work), Counts.of(*validation), Counts.of(*test))


def train(task: Task, work: Work) -> Update:
    """Score the head, fine-tune it on the site's images, and reply weight · change and the counts.

    Under differential privacy a site counts as one image: how many it has it keeps to itself.
    """
    scores = score(task, work)
    x, y = _data("train", task, work)
    if work.config.dp == "image":
        total = private_update(task, x, y, work.config, secret_generator())
        return Update(*_stated(task, work), scores.validation, scores.test, 1, total)
    control = task.extra.get(CONTROL)
    state = SiteState(work.place.state / "runs", task.run) if control else None
    own = _variate(state, task) if state else ()
    spec, recipe = _kind(work, task)
    head = trained(
        task, x, y, spec, work.config, validation=_data("validation", task, work),
        correction=correction(control, own) if control else None,
    )  # fmt: skip
    extra = {}
    if control and state:
        steps = local_steps(len(y), recipe.batch_size, recipe.epochs)
        following, change = next_control(task.head, head, control, own, steps, recipe.learning_rate * task.rate)
        state.keep(task.round, following, task.counted)
        extra = {CONTROL: change}
    n = 1 if work.config.private else work.site.images("train")
    weight = weight_of(task.weighting, n)
    total = weighted_change(task.head, head, weight)
    return Update(*_stated(task, work), scores.validation, scores.test, n, total, extra)


def _variate(state: SiteState, task: Task) -> Arrays:
    """Return c_k as it was after the last round that counted."""
    if not task.counted:
        return tuple(np.zeros_like(array) for array in task.head)
    own = state.before(task.counted + 1)
    if own is None or not state.holds(task.counted):
        raise SiteError(
            "state-lost",
            f"this site no longer has its variate of round {task.counted}, without which scaffold's would no longer "
            "add up; it takes no further part in this run",
        )
    return own


def gather(request: Gather, work: Work) -> Sums:
    """Sum the features of the site's training images: moments of those that the backbone gives, else of those that heads see.

    Under differential privacy the sums are noisy, and a site counts as one image.
    """
    moments, classes = request.extra.get(MOMENTS), len(request.classes)
    if work.config.private:
        x, y = work.site.data("train", request.classes)
        return Sums(*_stated(request, work), 1, released_sums(x, y, classes, work.config, secret_generator()))
    if request.what == "moments":
        x, y = work.site.raw("train"), work.site.numbers("train", request.classes)
    else:
        x, y = work.site.data("train", request.classes, moments)
    return Sums(*_stated(request, work), len(x), site_sums(request.what, x, y, classes))


def trial(request: Trial, work: Work) -> Tally:
    """Score several heads on the site's validation and test images, each under several factors on its class scores."""
    heads = list(request.heads)
    if request.shares:
        start, end = request.heads
        heads = [mix(start, end, share) for share in request.shares]
    splits = [_data(split, request, work) for split in ("validation", "test")]
    correct = np.zeros((len(heads), 2), np.int64)
    losses = np.zeros((len(heads), len(request.factors), 2))
    with trainer(*_kind(work, request)) as t:
        for i, head in enumerate(heads):
            for j, factor in enumerate(request.factors):
                scaled = (*head[:-2], *(array * np.float32(factor) for array in head[-2:]))
                for k, (x, y) in enumerate(splits):
                    probabilities = t.predict(scaled, x)
                    correct[i, k] = (probabilities.argmax(1) == y).sum()
                    losses[i, j, k] = cross_entropy(probabilities, y)
    return Tally(*_stated(request, work), np.array([len(y) for _, y in splits], np.int64), correct, losses)


def finish(task: Task, work: Work) -> Confusion:
    """Keep the run's best head at the site, and reply its confusion matrix on the site's test images."""
    work.place.keep(task, work.config, configured_backbone(work.config).fingerprint, work.run)
    if work.config.private:
        nothing, classes = Counts.empty(len(task.classes)), len(task.classes)
        return Confusion(*_stated(task, work), nothing, nothing, np.zeros((classes, classes), np.int64))
    validation, test = _predict(task, work)
    return Confusion(*_stated(task, work), Counts.of(*validation), Counts.of(*test), confusion_matrix(*test))


def personal(task: Task, work: Work) -> Personal:
    """Make the run's best head the site's own in several ways, keep the best of them, and reply how they do."""
    spec, _ = _kind(work, task)
    data = {split: _data(split, task, work) for split in SPLITS}
    made = make_personal(spec, work.config, task.head, data, task.site)
    log.info("the personal head kept is the %s one; the mixed one has %g of the global head", made.best, made.share)
    kept = replace(task, head=made.heads[made.best])
    work.place.keep_personal(kept, work.config, configured_backbone(work.config).fingerprint, work.run)
    return Personal(*_stated(task, work), work.site.images("test"), made.correct, made.share)


def _kind(work: Work, request: Task | Trial) -> tuple[HeadSpec, Recipe]:
    backbone = configured_backbone(work.config)
    return head_spec(work.config, backbone, len(request.classes), request.trainable), Recipe.from_config(work.config)


def _data(split: str, request: Task | Trial, work: Work) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return work.site.data(split, request.classes, request.extra.get(MOMENTS), request.trainable)


def _predict(task: Task, work: Work) -> tuple[Predictions, Predictions]:
    """Return probabilities and class numbers of the site's validation and of its test images."""
    with trainer(*_kind(work, task)) as t:
        probabilities = t.predict(task.head, work.site.held_out(task.extra.get(MOMENTS), task.trainable))
    validation, test = (work.site.numbers(split, task.classes) for split in ("validation", "test"))
    return (probabilities[: len(validation)], validation), (probabilities[len(validation) :], test)


def _stated(request: Request, work: Work) -> tuple[int, str, str]:
    """What every answer says of itself: round, backbone and class list."""
    return request.round, configured_backbone(work.config).fingerprint, classes_digest(request.classes)
