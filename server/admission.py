"""Which replies are let in, and why the others are not: nothing of a refused reply reaches the head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Message
from flwr.common.constant import ErrorCode

from common.errors import SiteError
from common.head import HeadSpec
from common.metrics import Counts
from common.protocol import Confusion, ProtocolError, Scores, Task, Update, classes_digest, weight_of
from common.wire import unpack

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
    """What a reply must fit to be let in.

    Attributes:
        spec: the head's shapes.
        classes: the class names that its numbers must be in the order of.
        fingerprint: of the backbone that it must have used.
        max_update_norm: largest Euclidean norm of an update, 0 for no bound.
        max_examples: largest number of training images a site may claim, 0 for no bound.
    """

    spec: HeadSpec
    classes: tuple[str, ...]
    fingerprint: str
    max_update_norm: float = 0.0
    max_examples: int = 0


@dataclass(frozen=True)
class Admission:
    """Replies by site name: the values let in, and the reason for each one left out."""

    admitted: dict[str, Any]
    refused: dict[str, str]


def admit(
    replies: Mapping[str, Sequence[Message]], *kinds: type[Any], task: Task | None = None, terms: Terms | None = None
) -> Admission:
    """Unpack and check the replies of an exchange.

    Args:
        replies: site name → what came from it.
        kinds: the protocol values that may answer.
        task: what the sites were asked; only its round and weighting matter.
        terms: what scores and updates must fit.
    """
    result = Admission({}, {})
    for site in sorted(replies):
        try:
            value = _value(replies[site], kinds)
            if task is not None and terms is not None:
                _check(value, task, terms)
            result.admitted[site] = value
        except SiteError as error:
            result.refused[site] = f"{error.code}: {error.text}"
        except ProtocolError as error:
            result.refused[site] = str(error)
    return result


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


def _check(value: Scores, task: Task, terms: Terms) -> None:
    if value.round != task.round:
        raise ProtocolError(f"answered round {value.round}, expected round {task.round}")
    if value.fingerprint != terms.fingerprint:
        raise ProtocolError(f"used backbone {value.fingerprint[:16]}…, expected {terms.fingerprint[:16]}…")
    if value.classes != classes_digest(terms.classes):
        raise ProtocolError("numbered the classes by another list of class names")
    for counts in (value.validation, value.test):
        _check_counts(counts, terms.spec.classes)
    if isinstance(value, Update):
        _check_update(value, task, terms)
    if isinstance(value, Confusion):
        _check_matrix(value.matrix, terms.spec.classes)


def _check_counts(counts: Counts, classes: int) -> None:
    if len(counts.images) != classes:
        raise ProtocolError(f"sent counts of {len(counts.images)} classes, expected {classes}")
    sound = (counts.correct >= 0).all() and (counts.correct <= np.minimum(counts.images, counts.predicted)).all()
    if not sound or counts.images.sum() != counts.predicted.sum():
        raise ProtocolError("sent counts that contradict each other")
    if not (np.isfinite(counts.loss) and counts.loss >= 0):
        raise ProtocolError(f"sent a loss of {counts.loss}, expected a number of 0 or more")


def _check_update(update: Update, task: Task, terms: Terms) -> None:
    if update.examples < 1:
        raise ProtocolError(f"reported {update.examples} training images, expected at least one")
    if terms.max_examples and update.examples > terms.max_examples:
        raise ProtocolError(f"reported {update.examples} training images, above --max-examples {terms.max_examples}")
    found = tuple((str(array.dtype), array.shape) for array in update.total)
    expected = tuple(("float32", shape) for shape in terms.spec.shapes)
    if found != expected:
        raise ProtocolError(f"sent arrays {found}, expected {expected}")
    if not all(np.isfinite(array).all() for array in update.total):
        raise ProtocolError("sent an update with NaN or infinite values")
    if terms.max_update_norm:
        norm = float(np.sqrt(sum(np.square(a, dtype=np.float64).sum() for a in update.total)))
        norm /= weight_of(task.weighting, update.examples)
        if norm > terms.max_update_norm:
            raise ProtocolError(f"sent an update of norm {norm:.4g}, above --max-update-norm {terms.max_update_norm:g}")


def _check_matrix(matrix: Any, classes: int) -> None:
    shape = (classes, classes)
    if matrix.shape != shape or not np.issubdtype(matrix.dtype, np.integer) or (matrix < 0).any():
        raise ProtocolError(
            f"sent a confusion matrix of shape {matrix.shape} and type {matrix.dtype}, expected {shape} of counts"
        )
