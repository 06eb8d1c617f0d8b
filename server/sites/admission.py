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
from fedtransfer.common.support.text import printable
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Answer, ProtocolError, Request
from fedtransfer.common.wire.records import unpack
from fedtransfer.common.wire.sums import check_numbers, check_sums
from fedtransfer.server.sites.answer_size import REFUSED_AT_THE_GATE
from fedtransfer.server.sites.bounds import Images, check_counts, check_loss, check_matrix, norm_of

# Codes of errors that stand for a reply (``fedtransfer.server.sites.network``), beyond Flower's.
INCOMPLETE, UNREADABLE = 1001, 1002
_FAULTS = {
    INCOMPLETE: "announced a reply, of which only a part arrived in time",
    UNREADABLE: "sent a reply that is no message",
    ErrorCode.LOAD_CLIENT_APP_EXCEPTION: "could not load its ClientApp; install the same fedtransfer there",
    ErrorCode.CLIENT_APP_RAISED_EXCEPTION: "its ClientApp raised an exception; the site's own log has it",
    ErrorCode.CLIENT_APP_CRASHED: "its ClientApp process died, perhaps because it ran out of memory",
    ErrorCode.MESSAGE_UNAVAILABLE: "the message to it expired before it was fetched; is the site overloaded?",
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE: "did not answer before its message expired",
    ErrorCode.NODE_UNAVAILABLE: "is no longer connected; start it again and it joins the next round",
    ErrorCode.INVALID_FAB: "refused the app's bundle",
    REFUSED_AT_THE_GATE: "was refused by the coordinator",
}

_CONTRADICTION = "sent counts that contradict each other"
_DEAD_WORKER = ("ActorDiedError", "ActorUnavailableError", "OutOfMemoryError", "WorkerCrashedError")


@dataclass(frozen=True)
class Terms:
    """What an answer must fit to be admitted."""

    classes: tuple[str, ...]  # names, in the order of an answer's numbers
    fingerprint: str  # of the run's backbone
    spec: Callable[[str], HeadSpec]  # layer of the backbone → shape of what is trained from that layer on
    widths: tuple[int, int]  # of a feature vector as the backbone gives it, and as the head sees it
    unit: bool = False  # the feature vectors that heads see have length 1
    views: int = 1  # rows of features for one training image, including its augmented views
    max_update_norm: float = 0.0  # largest Euclidean norm of an update, 0 for no limit
    images: Mapping[str, Images] = field(default_factory=dict)  # site → its images at joining, if it says

    @classmethod
    def from_config(
        cls, config: RunConfig, backbone: Backbone, classes: tuple[str, ...], images: Mapping[str, Images]
    ) -> "Terms":
        """Return the terms of a run."""
        widths = (backbone.features, feature_width(config, backbone))
        return cls(
            classes=classes, fingerprint=backbone.fingerprint, widths=widths, unit=config.normalise,
            spec=lambda layer: head_spec(config, backbone, len(classes), layer), views=config.augment + 1,
            max_update_norm=config.max_update_norm, images=images,
        )  # fmt: skip


@dataclass(frozen=True)
class Answers:
    """The sites' answers to one request."""

    admitted: dict[str, Any] = field(default_factory=dict)  # site → its answer; without arrays if added up
    refused: dict[str, str] = field(default_factory=dict)  # site → why its reply was refused
    total: Any = None  # under masks, or where sums are added on arrival, the sum of the admitted answers
    failure: str = ""  # why there is no total under masks
    bytes_down: int = 0  # size of a message to a site
    bytes_up: int = 0  # size of a message from a site
    began: float = 0.0  # ``time.monotonic()`` when the request was sent
    exchanging: float = 0.0  # seconds until the replies arrived; under masks, until they were unmasked
    attempt: int = 1  # more if the request was sent again

    @property
    def summands(self) -> list[Any]:
        """The answers to sum: those of the sites in name order, or their total alone."""
        if self.failure:
            return []
        return [self.admitted[site] for site in sorted(self.admitted)] if self.total is None else [self.total]


def admit(
    replies: Mapping[str, Sequence[Message]], *kinds: type[Any], request: Request | None = None,
    terms: Terms | None = None,
) -> Answers:  # fmt: skip
    """Unpack and check the replies of an exchange: answers of these ``kinds`` to ``request``."""
    result = Answers()
    for site in sorted(replies):
        try:
            value = _value(replies[site], kinds)
            if request is not None and terms is not None:
                _check(value, request, terms)
                if site in terms.images:
                    check_counts(value, request, terms.images[site], terms.views)
            result.admitted[site] = value
        except SiteError as error:
            result.refused[site] = f"{error.code}: {error.text}"
        except ProtocolError as error:
            result.refused[site] = str(error)
    return result


def check_total(total: Answer, request: Request, terms: Terms) -> None:
    """Raise a ProtocolError if a total has impossible numbers, since masks or shares were wrong."""
    _check_scores(total, request, terms)
    if isinstance(total, protocol.Sums) and isinstance(request, protocol.Gather):
        check_numbers(total, request.what)
    if isinstance(total, protocol.Update | protocol.Sums):
        _check_examples(total.examples)


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
        remedy = "let fewer sites work at a time (a larger --client-cpus), or use --engine inprocess"
        return f"its worker died, most likely because it ran out of memory; {remedy}"
    lines = [line.strip() for line in reason.strip(" '>").splitlines() if line.strip()]
    words = _FAULTS.get(code, f"failed with Flower's error {code}")
    return f"{words} ({printable(lines[-1], 200)})" if lines else words


def _check(value: Answer, request: Request, terms: Terms) -> None:
    if value.round != request.round:
        raise ProtocolError(f"answered round {value.round}, expected round {request.round}")
    if value.fingerprint != terms.fingerprint:
        raise ProtocolError(f"used backbone {value.fingerprint[:16]}…, expected {terms.fingerprint[:16]}…")
    if value.classes != protocol.classes_digest(terms.classes):
        raise ProtocolError("used another list of class names than the run")
    _check_scores(value, request, terms)
    if isinstance(value, protocol.Update) and isinstance(request, protocol.Task):
        _check_update(value, request, terms)
    if isinstance(value, protocol.Sums) and isinstance(request, protocol.Gather):
        _check_examples(value.examples)
        raw = request.what == "moments"
        width = terms.widths[0 if raw else 1]
        check_sums(value, request.what, width, len(terms.classes), terms.unit and not raw)
    if isinstance(value, protocol.Personal):
        _check_arrays((value.correct,), [("int64", (4,))])
        sound = (value.correct >= 0).all() and (value.correct <= value.images).all()
        if not (sound and 0 <= value.share <= 1):
            raise ProtocolError(_CONTRADICTION)


def _check_scores(value: Answer, request: Request, terms: Terms) -> None:
    """Check the scores in an answer of one site, or in a total."""
    if isinstance(value, protocol.Scores):
        for counts in (value.validation, value.test):
            _check_counts(counts, len(terms.classes))
    if isinstance(value, protocol.Confusion):
        check_matrix(value.matrix, value.test)
    if isinstance(value, protocol.Tally) and isinstance(request, protocol.Trial):
        _check_arrays((value.losses,), [("float64", (len(request.heads), len(request.factors)))])
        if value.images < 0:
            raise ProtocolError(_CONTRADICTION)
        check_loss(value.losses, value.images)


def _check_counts(counts: Counts, classes: int) -> None:
    if len(counts.images) != classes:
        raise ProtocolError(f"sent counts of {len(counts.images)} classes, expected {classes}")
    sound = (counts.correct >= 0).all() and (
        counts.correct <= np.minimum(counts.images, counts.predicted)
    ).all()
    if not sound or counts.images.sum() != counts.predicted.sum():
        raise ProtocolError(_CONTRADICTION)
    check_loss(counts.loss, counts.total)


def _check_update(update: protocol.Update, task: protocol.Task, terms: Terms) -> None:
    _check_examples(update.examples)
    spec = terms.spec(task.trainable)
    _check_arrays(update.total, [("float32", shape) for shape in spec.shapes])
    if set(update.extra) != (expected := set(task.extra) & {protocol.CONTROL}):
        sent = f"sent arrays called {sorted(update.extra)} besides its update"
        raise ProtocolError(f"{sent}, expected {sorted(expected) or 'none'}")
    for extra in update.extra.values():
        _check_arrays(extra, [("float32", shape) for shape in spec.shapes])
    limit = terms.max_update_norm
    if limit and (norm := norm_of(update, task.weighting)) > limit:
        raise ProtocolError(f"sent an update of norm {norm:.4g}, above --max-update-norm {limit:g}")


def _check_examples(examples: int) -> None:
    if examples < 1:
        raise ProtocolError(f"reported {examples} training images, expected at least one")


def _check_arrays(arrays: Sequence[NDArray[Any]], expected: Sequence[tuple[str, tuple[int, ...]]]) -> None:
    received = [(str(array.dtype), array.shape) for array in arrays]
    if received != list(expected):
        raise ProtocolError(f"sent arrays {received}, expected {list(expected)}")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ProtocolError("sent an update with NaN or infinite values")
