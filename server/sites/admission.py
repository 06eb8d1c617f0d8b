"""Which replies are let in, and why the others are not: nothing of a refused reply reaches the head."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Message
from flwr.common.constant import ErrorCode
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import Backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import SiteError
from fedtransfer.common.features.feature_map import feature_width
from fedtransfer.common.head.head import HeadSpec
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.head.spec import head_spec
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
    ErrorCode.CLIENT_APP_CRASHED: "its ClientApp process died, perhaps killed for want of memory",
    ErrorCode.MESSAGE_UNAVAILABLE: "the message to it expired before it was fetched; is the site overloaded?",
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE: "did not answer before its message expired",
    ErrorCode.NODE_UNAVAILABLE: "is no longer connected; start it again, it joins the next round",
    ErrorCode.INVALID_FAB: "refused the app's bundle",
}

_DEAD_WORKER = ("ActorDiedError", "ActorUnavailableError", "OutOfMemoryError", "WorkerCrashedError")


@dataclass(frozen=True)
class Terms:
    """What an answer must fit to be let in.

    Attributes:
        classes: the class names that its numbers must be in the order of.
        fingerprint: of the backbone that it must have used.
        spec: from a layer of the backbone to what is trained from there on.
        widths: of a feature vector as the backbone gives it, and as the head sees it.
        unit: whether those that heads see have length 1.
        views: rows of features that a training image has, its augmented views included.
        max_update_norm: largest Euclidean norm of an update, 0 for no bound.
        max_examples: largest number of training images a site may claim, 0 for no bound.
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
    def of(cls, config: RunConfig, backbone: Backbone, classes: tuple[str, ...]) -> "Terms":
        """Return the terms of a run."""
        return cls(
            classes, backbone.fingerprint, lambda layer: head_spec(config, backbone, len(classes), layer),
            (backbone.features, feature_width(config, backbone)), config.normalise, config.augment + 1, config.max_update_norm, config.max_examples,
        )  # fmt: skip


@dataclass(frozen=True)
class Admission:
    """Replies by site name: the values let in, and the reason for each one left out.

    Attributes:
        admitted, refused: these.
        total: under masks, the one answer that stands for all that were let in; their own are not known.
        failure: why, under masks, there is no total; "" where there is one, or nobody was asked for it.
    """

    admitted: dict[str, Any]
    refused: dict[str, str]
    total: Any = None
    failure: str = ""

    @property
    def answers(self) -> list[Any]:
        """What adds up to the whole: the answers in site order, or their total."""
        if self.failure:
            return []
        return [self.admitted[site] for site in sorted(self.admitted)] if self.total is None else [self.total]


def admit(
    replies: Mapping[str, Sequence[Message]],
    *kinds: type[Any],
    request: Request | None = None,
    terms: Terms | None = None,
) -> Admission:
    """Unpack and check the replies of an exchange.

    Args:
        replies: site name → what came from it.
        kinds: the protocol values that may answer.
        request: what the sites were asked, whichever of them.
        terms: what the answers must fit.
    """
    result = Admission({}, {})
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
    """Check what was unmasked. Numbers that no sites have mean that some site's masks or shares were not what they must be.

    Raises:
        ProtocolError: there are such.
    """
    _check_scores(total, request, terms)
    if isinstance(total, Sums) and isinstance(request, Gather):
        check_numbers(total, request.what)
    if isinstance(total, Update | Sums) and total.examples < 1:
        raise ProtocolError(f"reported {total.examples} training images, expected at least one")


def is_gone(replies: Sequence[Message]) -> bool:
    """Whether Flower says in a site's place that it is not connected."""
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
    """Say in words what became of a site; a reason may be a whole traceback, of which the last line tells most."""
    if any(name in reason for name in _DEAD_WORKER):
        return (
            "its worker died, most likely killed for want of memory; let fewer sites work at a time (a larger "
            "--client-cpus), or use --engine inprocess"
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
        raise ProtocolError("numbered the classes by another list of class names")
    _check_scores(value, request, terms)
    if isinstance(value, Update) and isinstance(request, Task):
        _check_update(value, request, terms)
    if isinstance(value, Sums) and isinstance(request, Gather):
        _check_sums(value, request.what, terms)
    if isinstance(value, Personal):
        _check_personal(value)


def _check_scores(value: Answer, request: Request, terms: Terms) -> None:
    """Check what tells how heads do, of one site or of all together."""
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
    found = [(str(array.dtype), array.shape) for array in arrays]
    if found != list(expected):
        raise ProtocolError(f"sent arrays {found}, expected {list(expected)}")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ProtocolError("sent an update with NaN or infinite values")


def _check_sums(sums: Sums, what: str, terms: Terms) -> None:
    _check_examples(-(-sums.examples // terms.views), terms)
    raw = what == "moments"
    check_sums(sums, what, terms.widths[0 if raw else 1], len(terms.classes), terms.unit and not raw)


def _check_tally(tally: Tally, trial: Trial) -> None:
    heads, factors = trial.number, len(trial.factors)
    _check_arrays(
        (tally.images, tally.correct, tally.losses),
        [("int64", (2,)), ("int64", (heads, 2)), ("float64", (heads, factors, 2))],
    )
    if (tally.correct < 0).any() or (tally.correct > tally.images).any() or (tally.losses < 0).any():
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
