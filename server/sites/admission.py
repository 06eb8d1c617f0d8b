"""Checks of the sites' replies. Nothing in a refused reply reaches the head."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Message
from flwr.common.constant import ErrorCode
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import Backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import SiteError
from fedtransfer.common.features.feature_map import feature_width
from fedtransfer.common.head.head import HeadSpec, head_spec
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.wire.protocol import (
    CONTROL,
    Answer,
    Confusion,
    Gather,
    Personal,
    ProtocolError,
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
from fedtransfer.common.wire.records import unpack
from fedtransfer.common.wire.sums import check_numbers, check_sums

_FAULTS = {
    ErrorCode.LOAD_CLIENT_APP_EXCEPTION: "could not load its ClientApp; install the same fedtransfer there",
    ErrorCode.CLIENT_APP_RAISED_EXCEPTION: "its ClientApp raised an exception; the site's own log has it",
    ErrorCode.CLIENT_APP_CRASHED: "its ClientApp process died, perhaps because it ran out of memory",
    ErrorCode.MESSAGE_UNAVAILABLE: "the message to it expired before it was fetched; is the site overloaded?",
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE: "did not answer before its message expired",
    ErrorCode.NODE_UNAVAILABLE: "is no longer connected; start it again and it joins the next round",
    ErrorCode.INVALID_FAB: "refused the app's bundle",
}

_DEAD_WORKER = ("ActorDiedError", "ActorUnavailableError", "OutOfMemoryError", "WorkerCrashedError")


@dataclass(frozen=True)
class Terms:
    """What an answer must fit to be admitted.

    Attributes:
        classes: class names, in the order of an answer's numbers.
        fingerprint: fingerprint of the run's backbone.
        spec: layer of the backbone → shape of what is trained from that layer on.
        widths: width of a feature vector as the backbone gives it, and as the head sees it.
        unit: the feature vectors that heads see have length 1.
        views: rows of features for one training image, including its augmented views.
        max_update_norm: largest Euclidean norm of an update, 0 for no limit.
        max_examples: largest number of training images that a site may report, 0 for no limit.
    """

    classes: tuple[str, ...]
    fingerprint: str
    spec: Callable[[str], HeadSpec]
    widths: tuple[int, int]
    unit: bool = False
    views: int = 1
    max_update_norm: float = 0.0
    max_examples: int = 0

    @classmethod
    def from_config(cls, config: RunConfig, backbone: Backbone, classes: tuple[str, ...]) -> "Terms":
        """Return the terms of a run."""
        return cls(
            classes=classes,
            fingerprint=backbone.fingerprint,
            spec=lambda layer: head_spec(config, backbone, len(classes), layer),
            widths=(backbone.features, feature_width(config, backbone)),
            unit=config.normalise,
            views=config.augment + 1,
            max_update_norm=config.max_update_norm,
            max_examples=config.max_examples,
        )


@dataclass(frozen=True)
class Answers:
    """The sites' answers to one request.

    Attributes:
        admitted: site → its answer. Under masks it has no numbers: only ``total`` has.
        refused: site → why its reply was refused.
        total: under masks, the sum of the admitted answers; else None.
        failure: why there is no total under masks; "" if there is one, and without masks.
        bytes_down, bytes_up: size of a message to a site, and of one from a site.
        began: ``time.monotonic()`` when the request was sent.
        exchanging: seconds until the replies arrived; under masks, until they were unmasked.
        attempt: 1, or more if the request was sent again.
    """

    admitted: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    total: Any = None
    failure: str = ""
    bytes_down: int = 0
    bytes_up: int = 0
    began: float = 0.0
    exchanging: float = 0.0
    attempt: int = 1

    @property
    def summands(self) -> list[Any]:
        """The answers to sum: those of the sites in name order, or their total alone."""
        if self.failure:
            return []
        return [self.admitted[site] for site in sorted(self.admitted)] if self.total is None else [self.total]


def admit(
    replies: Mapping[str, Sequence[Message]],
    *kinds: type[Any],
    request: Request | None = None,
    terms: Terms | None = None,
) -> Answers:
    """Unpack and check the replies of an exchange.

    Args:
        replies: site → its replies.
        kinds: the protocol types of an answer.
        request: the request to any of the sites.
        terms: what the answers must fit.
    """
    result = Answers()
    for site in sorted(replies):
        try:
            value = _value(replies[site], kinds)
            if request is not None and terms is not None:
                _check(value, request, terms)
            result.admitted[site] = value
        except SiteError as error:
            result.refused[site] = f"{error.code}: {error.text}"
        except ProtocolError as error:
            result.refused[site] = str(error)
    return result


def check_total(total: Answer, request: Request, terms: Terms) -> None:
    """Check an unmasked total: impossible numbers mean that some site's masks or shares were wrong.

    Raises:
        ProtocolError: a number is impossible.
    """
    _check_scores(total, request, terms)
    if isinstance(total, Sums) and isinstance(request, Gather):
        check_numbers(total, request.what)
    if isinstance(total, Update | Sums) and total.examples < 1:
        raise ProtocolError(f"reported {total.examples} training images, expected at least one")


def is_gone(replies: Sequence[Message]) -> bool:
    """Whether Flower reports that the site is not connected."""
    return any(reply.has_error() and reply.error.code == ErrorCode.NODE_UNAVAILABLE for reply in replies)


def _value(replies: Sequence[Message], kinds: Sequence[type[Any]]) -> Any:
    if not replies:
        raise ProtocolError("did not answer in time")
    if len(replies) > 1:
        raise ProtocolError(f"answered {len(replies)} times, expected once")
    reply = replies[0]
    if reply.has_error():
        raise ProtocolError(_fault(reply.error.code, reply.error.reason or ""))
    return unpack(reply.content, *kinds)


def _fault(code: int, reason: str) -> str:
    """Describe Flower's error in words. ``reason`` may be a traceback; its last line says most."""
    if any(name in reason for name in _DEAD_WORKER):
        return (
            "its worker died, most likely because it ran out of memory; let fewer sites work at a time (a "
            "larger --client-cpus), or use --engine inprocess"
        )
    lines = [line.strip() for line in reason.strip(" '>").splitlines() if line.strip()]
    words = _FAULTS.get(code, f"failed with Flower's error {code}")
    return f"{words} ({lines[-1][:200]})" if lines else words


def _check(value: Answer, request: Request, terms: Terms) -> None:
    if value.round != request.round:
        raise ProtocolError(f"answered round {value.round}, expected round {request.round}")
    if value.fingerprint != terms.fingerprint:
        raise ProtocolError(f"used backbone {value.fingerprint[:16]}…, expected {terms.fingerprint[:16]}…")
    if value.classes != classes_digest(terms.classes):
        raise ProtocolError("used another list of class names than the run")
    _check_scores(value, request, terms)
    if isinstance(value, Update) and isinstance(request, Task):
        _check_update(value, request, terms)
    if isinstance(value, Sums) and isinstance(request, Gather):
        _check_sums(value, request.what, terms)
    if isinstance(value, Personal):
        _check_personal(value)


def _check_scores(value: Answer, request: Request, terms: Terms) -> None:
    """Check the scores in an answer of one site, or in a total."""
    if isinstance(value, Scores):
        for counts in (value.validation, value.test):
            _check_counts(counts, len(terms.classes))
    if isinstance(value, Confusion):
        _check_matrix(value.matrix, len(terms.classes))
    if isinstance(value, Tally) and isinstance(request, Trial):
        _check_tally(value, request)


def _check_counts(counts: Counts, classes: int) -> None:
    if len(counts.images) != classes:
        raise ProtocolError(f"sent counts of {len(counts.images)} classes, expected {classes}")
    sound = (counts.correct >= 0).all() and (counts.correct <= np.minimum(counts.images, counts.predicted)).all()
    if not sound or counts.images.sum() != counts.predicted.sum():
        raise ProtocolError("sent counts that contradict each other")
    if not (np.isfinite(counts.loss) and counts.loss >= 0):
        raise ProtocolError(f"sent a loss of {counts.loss}, expected a number of 0 or more")


def _check_update(update: Update, task: Task, terms: Terms) -> None:
    _check_examples(update.examples, terms)
    spec = terms.spec(task.trainable)
    _check_arrays(update.total, [("float32", shape) for shape in spec.shapes])
    if set(update.extra) != (expected := set(task.extra) & {CONTROL}):
        raise ProtocolError(
            f"sent arrays called {sorted(update.extra)} besides its update, expected {sorted(expected) or 'none'}"
        )
    for extra in update.extra.values():
        _check_arrays(extra, [("float32", shape) for shape in spec.shapes])
    if terms.max_update_norm:
        norm = float(np.sqrt(sum(np.square(a, dtype=np.float64).sum() for a in update.total)))
        norm /= weight_of(task.weighting, update.examples)
        if norm > terms.max_update_norm:
            raise ProtocolError(f"sent an update of norm {norm:.4g}, above --max-update-norm {terms.max_update_norm:g}")


def _check_examples(examples: int, terms: Terms) -> None:
    if examples < 1:
        raise ProtocolError(f"reported {examples} training images, expected at least one")
    if terms.max_examples and examples > terms.max_examples:
        raise ProtocolError(f"reported {examples} training images, above --max-examples {terms.max_examples}")


def _check_arrays(arrays: Sequence[NDArray[Any]], expected: Sequence[tuple[str, tuple[int, ...]]]) -> None:
    received = [(str(array.dtype), array.shape) for array in arrays]
    if received != list(expected):
        raise ProtocolError(f"sent arrays {received}, expected {list(expected)}")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ProtocolError("sent an update with NaN or infinite values")


def _check_sums(sums: Sums, statistic: str, terms: Terms) -> None:
    _check_examples(-(-sums.examples // terms.views), terms)
    raw = statistic == "moments"
    check_sums(sums, statistic, terms.widths[0 if raw else 1], len(terms.classes), terms.unit and not raw)


def _check_tally(tally: Tally, trial: Trial) -> None:
    _check_arrays((tally.losses,), [("float64", (len(trial.heads), len(trial.factors)))])
    if tally.images < 0 or (tally.losses < 0).any():
        raise ProtocolError("sent counts that contradict each other")


def _check_personal(personal: Personal) -> None:
    _check_arrays((personal.correct,), [("int64", (4,))])
    if (personal.correct < 0).any() or (personal.correct > personal.images).any() or not 0 <= personal.share <= 1:
        raise ProtocolError("sent counts that contradict each other")


def _check_matrix(matrix: Any, classes: int) -> None:
    shape = (classes, classes)
    if matrix.shape != shape or not np.issubdtype(matrix.dtype, np.integer) or (matrix < 0).any():
        raise ProtocolError(
            f"sent a confusion matrix of shape {matrix.shape} and type {matrix.dtype}, expected {shape} of counts"
        )
