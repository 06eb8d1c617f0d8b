"""Template (fields, shapes, dtypes) into which a total under masks is decoded."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.wire.protocol import (
    CONTROL,
    Answer,
    Confusion,
    Gather,
    Personal,
    Request,
    Scores,
    Sums,
    Tally,
    Task,
    Trial,
    Update,
    classes_digest,
)
from fedtransfer.common.wire.sums import layout
from fedtransfer.server.sites.admission import Terms


def template(answer: type[Any], request: Request, terms: Terms) -> Answer:
    """Return an all-zero answer of type ``answer``, of the shapes that ``request`` calls for.

    Raises:
        TypeError: a request of this type has no answer of that type.
    """
    classes = len(terms.classes)
    heading = (request.round, terms.fingerprint, classes_digest(terms.classes))
    scores = (*heading, Counts.empty(classes), Counts.empty(classes))
    if isinstance(request, Task):
        head = _zeros([("float32", shape) for shape in terms.spec(request.trainable).shapes])
        extra = {CONTROL: head} if CONTROL in request.extra else {}
        templates: dict[type[Any], Answer] = {
            Scores: Scores(*scores),
            Update: Update(*scores, 0, head, extra),
            Confusion: Confusion(*scores, np.zeros((classes, classes), np.int64)),
            Personal: Personal(*heading, 0, np.zeros(4, np.int64), 0.0),
        }
        return templates[answer]
    if isinstance(request, Gather):
        width = terms.widths[0 if request.what == "moments" else 1]
        return Sums(*heading, 0, _zeros(layout(request.what, width, classes)))
    if isinstance(request, Trial):
        return Tally(*heading, 0, np.zeros((len(request.heads), len(request.factors))))
    raise TypeError(f"no answer {answer.__name__} to {type(request).__name__}")


def _zeros(arrays: Sequence[tuple[str, tuple[int, ...]]]) -> tuple[NDArray[Any], ...]:
    return tuple(np.zeros(shape, dtype) for dtype, shape in arrays)
