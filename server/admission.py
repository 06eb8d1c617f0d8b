"""Which replies are let in, and why the others are not: nothing of a refused reply reaches the head."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Message

from common.errors import SiteError
from common.head import HeadSpec
from common.metrics import Counts
from common.protocol import Confusion, ProtocolError, Scores, Update, unpack


@dataclass(frozen=True)
class Admission:
    """Replies by site name: the values let in, and the reason for each one left out."""

    admitted: dict[str, Any]
    refused: dict[str, str]


def admit(
    replies: Mapping[str, Message | None], kind: type[Any], *, round: int = 0, spec: HeadSpec | None = None
) -> Admission:
    """Unpack and check the replies of a round.

    Args:
        replies: site name → its reply, or None where none came in time.
        kind: the protocol value that was asked for.
        round: the round that scores must belong to.
        spec: the head that updates must fit.
    """
    result = Admission({}, {})
    for site in sorted(replies):
        try:
            result.admitted[site] = _check(replies[site], kind, round, spec)
        except SiteError as error:
            result.refused[site] = f"{error.code}: {error.text}"
        except ProtocolError as error:
            result.refused[site] = str(error)
    return result


def _check(reply: Message | None, kind: type[Any], round: int, spec: HeadSpec | None) -> Any:
    if reply is None:
        raise ProtocolError("did not answer in time")
    if reply.has_error():
        raise ProtocolError(f"failed (Flower error {reply.error.code}: {reply.error.reason})")
    value = unpack(reply.content, kind)
    if isinstance(value, Scores) and spec is not None:
        if value.round != round:
            raise ProtocolError(f"answered round {value.round}, expected round {round}")
        for counts in (value.validation, value.test):
            _check_counts(counts, spec.classes)
        if isinstance(value, Update):
            _check_update(value, spec)
        if isinstance(value, Confusion) and (
            value.matrix.shape != (spec.classes, spec.classes) or (value.matrix < 0).any()
        ):
            raise ProtocolError(
                f"sent a confusion matrix of shape {value.matrix.shape}, expected {(spec.classes, spec.classes)} of counts"
            )
    return value


def _check_counts(counts: Counts, classes: int) -> None:
    if len(counts.images) != classes:
        raise ProtocolError(f"sent counts of {len(counts.images)} classes, expected {classes}")
    sound = (counts.correct >= 0).all() and (counts.correct <= np.minimum(counts.images, counts.predicted)).all()
    if not sound or counts.images.sum() != counts.predicted.sum() or not np.isfinite(counts.loss):
        raise ProtocolError("sent counts that contradict each other")


def _check_update(update: Update, spec: HeadSpec) -> None:
    if update.examples < 1:
        raise ProtocolError(f"reported {update.examples} training images, expected at least one")
    found = tuple((str(array.dtype), array.shape) for array in update.total)
    expected = tuple(("float32", shape) for shape in spec.shapes)
    if found != expected:
        raise ProtocolError(f"sent arrays {found}, expected {expected}")
    if not all(np.isfinite(array).all() for array in update.total):
        raise ProtocolError("sent an update with NaN or infinite values")
