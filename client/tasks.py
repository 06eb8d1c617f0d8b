"""A site's answer to each kind of request, once its features are ready."""

import logging
from dataclasses import dataclass, replace

import numpy as np

from fedtransfer.client.data import SPLITS, SiteData
from fedtransfer.client.masking.masking import empty_confusion
from fedtransfer.client.node import Node
from fedtransfer.client.training.personal import Split, make_personal
from fedtransfer.client.training.private import private_update
from fedtransfer.client.training.scaffold import SiteState, correction, local_steps, next_control
from fedtransfer.client.training.statistics import released_sums, site_sums
from fedtransfer.client.training.trainer import Recipe, weighted_change
from fedtransfer.client.training.trainers import fine_tune, trainer
from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import SiteError
from fedtransfer.common.head.head import Arrays, HeadSpec, head_spec
from fedtransfer.common.head.metrics import Counts, confusion_matrix, cross_entropy
from fedtransfer.common.privacy.gaussian import secret_generator
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import CONTROL, MOMENTS, Request, Task, Trial

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Site:
    """A site in a run."""

    node: Node
    config: RunConfig  # as it is at this site
    run: int  # Flower's run id
    data: SiteData


def describe(query: protocol.Query, site: Site) -> protocol.Description:
    """Report the site's numbers of images, if it reveals them.

    Raises:
        SiteError: it has a class that the run does not declare.
    """
    if site.config.dp == "image":  # even a refusal would reveal an image
        return protocol.Description({}, 0, site.node.partition)
    images = site.data.images_by_class()
    if query.classes and (unknown := sorted(set(images) - set(query.classes))):
        names, declared = (", ".join(map(repr, classes)) for classes in (unknown, query.classes))
        log.error(
            "the run has declared its classes, and %s %s not among them: %s; "
            'map them in site.toml, [classes], or leave them out there with ""',
            names, "is" if len(unknown) == 1 else "are", declared,
        )  # fmt: skip
        raise SiteError(
            "unknown-class",
            f"the site has a class that is not among the {len(query.classes)} that the run declares; the "
            "site's own log names it",
        )
    if site.config.hides_counts:
        return protocol.Description({}, 0, site.node.partition)
    return protocol.Description(images, site.data.unreadable, site.node.partition)


def score(task: Task, site: Site) -> protocol.Scores:
    """Score a head on the site's validation and test images; empty under differential privacy."""
    if site.config.private:
        empty = Counts.empty(len(task.classes))
        return protocol.Scores(*_heading(task, site), empty, empty)
    validation, test = _predict(task, site)
    return protocol.Scores(*_heading(task, site), Counts.of(*validation), Counts.of(*test))


def train(task: Task, site: Site) -> protocol.Update:
    """Score the head, fine-tune it on the site's images, and return weight · change and the counts.

    Under differential privacy a site counts as one image, because it does not reveal their number.
    """
    scores = score(task, site)
    x, y = _data("train", task, site)
    if site.config.dp == "image":
        total = private_update(task, x, y, site.config, secret_generator())
        return protocol.Update(*_heading(task, site), scores.validation, scores.test, 1, total)
    control = task.extra.get(CONTROL)
    state = SiteState(site.node.state / "runs", task.run) if control else None
    variate = _variate(state, task) if state else ()
    spec, recipe = _head_and_recipe(site, task)
    head = fine_tune(
        task, x, y, spec, site.config, validation=_data("validation", task, site),
        correction=correction(control, variate) if control else None,
    )  # fmt: skip
    extra = {}
    if control and state:
        steps = local_steps(len(y), recipe.batch_size, recipe.epochs)
        following, change = next_control(
            task.head, head, control, variate, steps, recipe.learning_rate * task.rate
        )
        state.keep(task.round, following, task.counted)
        extra = {CONTROL: change}
    n = 1 if site.config.private else site.data.images("train")
    weight = protocol.weight_of(task.weighting, n)
    total = weighted_change(task.head, head, weight)
    return protocol.Update(*_heading(task, site), scores.validation, scores.test, n, total, extra)


def _variate(state: SiteState, task: Task) -> Arrays:
    """Return c_k as it was after the last round that counted."""
    if not task.counted:
        return tuple(np.zeros_like(array) for array in task.head)
    if (variate := state.after(task.counted)) is None:
        raise SiteError(
            "state-lost",
            f"this site has lost its variate of round {task.counted}, without which scaffold's variates no "
            "longer add up; it takes no further part in this run",
        )
    return variate


def gather(request: protocol.Gather, site: Site) -> protocol.Sums:
    """Sum the features of the site's training images.

    Moments are of features as the backbone gives them, other sums of features as heads see them.
    Under differential privacy the sums are noisy, and a site counts as one image.
    """
    moments, classes = request.extra.get(MOMENTS), len(request.classes)
    if site.config.private:
        x, y = site.data.data("train", request.classes)
        sums = released_sums(x, y, classes, site.config, secret_generator())
        return protocol.Sums(*_heading(request, site), 1, sums)
    if request.what == "moments":
        x, y = site.data.raw("train"), site.data.numbers("train", request.classes)
    else:
        x, y = site.data.data("train", request.classes, moments)
    return protocol.Sums(*_heading(request, site), len(x), site_sums(request.what, x, y, classes))


def trial(request: Trial, site: Site) -> protocol.Tally:
    """Score several heads on validation images, each under several factors on its scores."""
    x, y = _data("validation", request, site)
    losses = np.zeros((len(request.heads), len(request.factors)))
    if not len(y):
        return protocol.Tally(*_heading(request, site), 0, losses)
    with trainer(*_head_and_recipe(site, request)) as t:
        for i, head in enumerate(request.heads):
            for j, factor in enumerate(request.factors):
                scaled = (*head[:-2], *(array * np.float32(factor) for array in head[-2:]))
                losses[i, j] = cross_entropy(t.predict(scaled, x), y)
    return protocol.Tally(*_heading(request, site), len(y), losses)


def finish(task: Task, site: Site) -> protocol.Confusion:
    """Keep the run's best head at the site, and return its confusion matrix on the test images."""
    site.node.keep(task, site.config, configured_backbone(site.config).fingerprint, site.run)
    if site.config.private:
        return empty_confusion(*_heading(task, site), len(task.classes))
    validation, test = _predict(task, site)
    scores = Counts.of(*validation), Counts.of(*test), confusion_matrix(*test)
    return protocol.Confusion(*_heading(task, site), *scores)


def personal(task: Task, site: Site) -> protocol.Personal:
    """Make personal heads from the run's best head, keep the best one, and return their scores."""
    spec, _ = _head_and_recipe(site, task)
    data = {split: _data(split, task, site) for split in SPLITS}
    result = make_personal(spec, site.config, task.head, data, task.site)
    text = "the best personal head is the %s one; the mixed one has %g of the global head"
    log.info(text, result.best, result.share)
    best = replace(task, head=result.heads[result.best])
    site.node.keep(best, site.config, configured_backbone(site.config).fingerprint, site.run, personal=True)
    return protocol.Personal(*_heading(task, site), site.data.images("test"), result.correct, result.share)


def _head_and_recipe(site: Site, request: Task | Trial) -> tuple[HeadSpec, Recipe]:
    backbone = configured_backbone(site.config)
    return head_spec(site.config, backbone, len(request.classes), request.trainable), Recipe.from_config(
        site.config
    )


def _data(split: str, request: Task | Trial, site: Site) -> Split:
    return site.data.data(split, request.classes, request.extra.get(MOMENTS), request.trainable)


def _predict(task: Task, site: Site) -> tuple[Split, Split]:
    """Return probabilities and class numbers of the validation images, and of the test images."""
    with trainer(*_head_and_recipe(site, task)) as t:
        x = site.data.features(task.extra.get(MOMENTS), task.trainable)["held out"]
        probabilities = t.predict(task.head, x)
    validation, test = (site.data.numbers(split, task.classes) for split in ("validation", "test"))
    return (probabilities[: len(validation)], validation), (probabilities[len(validation) :], test)


def _heading(request: Request, site: Site) -> tuple[int, str, str]:
    """Return the first fields of every answer: round, backbone and class list."""
    return (
        request.round,
        configured_backbone(site.config).fingerprint,
        protocol.classes_digest(request.classes),
    )
