import re
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Error, Message

from fedtransfer.common.errors import SiteError
from fedtransfer.common.head.head import HeadSpec
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.wire.protocol import (
    CONTROL,
    MOMENTS,
    Answer,
    Confusion,
    Request,
    Task,
    Update,
    classes_digest,
)
from fedtransfer.common.wire.records import pack
from fedtransfer.server.sites.admission import Terms, admit

SPEC = HeadSpec(4, 3)
CLASSES = ("a", "b", "c")
TASK = Task("site", 2, CLASSES, ())
TERMS = Terms(CLASSES, "f" * 64, lambda layer: SPEC, (4, 4), max_update_norm=100.0)


def counts(classes: int = 3) -> Counts:
    return Counts.of(np.eye(classes, dtype=np.float32), np.arange(classes))


def update(**changes: object) -> Update:
    good = Update(
        2,
        "f" * 64,
        classes_digest(CLASSES),
        counts(),
        counts(),
        5,
        (np.ones((4, 3), np.float32), np.ones(3, np.float32)),
    )
    return replace(good, **changes)


class Reply:
    """What admission looks at in a Flower message."""

    def __init__(self, value: object) -> None:
        self.error = value
        self._failed = isinstance(value, Error)
        if not self._failed:
            self.content = pack(value)

    def has_error(self) -> bool:
        return self._failed


def admit_one(value: object, kind: type = Update) -> tuple[dict, dict]:
    sent = value if isinstance(value, list) else [value]
    replies: dict[str, list[Message]] = {"good": [Reply(update())], "site": [Reply(one) for one in sent]}  # type: ignore[dict-item]
    result = admit(replies, kind, request=TASK, terms=TERMS)
    assert kind is not Update or "good" in result.admitted
    return result.admitted, result.refused


def test_a_sound_update_is_let_in() -> None:
    admitted, refused = admit_one(update())
    assert list(admitted) == ["good", "site"]
    assert refused == {}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "did not answer in time"),
        ([update(), update()], "answered 2 times, expected once"),
        (Error(2, "boom"), r"raised an exception; .*\(boom\)"),
        (Error(8, ""), "process died"),
        (Error(5, ""), "no longer connected; start it again"),
        (Error(99, "odd"), r"failed with Flower's error 99 \(odd\)"),
        (SiteError("broken", "no images"), "broken: no images"),
        (update(round=1), "answered round 1, expected round 2"),
        (update(fingerprint="0" * 64), r"used backbone 0000000000000000…, expected ffff"),
        (update(classes=classes_digest(("b", "a", "c"))), "another list of class names"),
        (
            update(total=(np.full((4, 3), 1e3, np.float32), np.ones(3, np.float32))),
            "norm 692.8, above --max-update",
        ),
        (update(validation=replace(counts(), loss=-1.0)), "loss of -1.0"),
        (update(validation=replace(counts(), loss=83.0)), "83 over 3 images, expected at most 27.6 an image"),
        (update(examples=0), "0 training images"),
        (update(examples=-3), "-3 training images"),
        (update(total=(np.full((4, 3), np.nan, np.float32), np.ones(3, np.float32))), "NaN"),
        (update(total=(np.ones((4, 3), np.float32), np.full(3, np.inf, np.float32))), "infinite"),
        (
            update(total=(np.ones((1, 3), np.float32), np.ones(3, np.float32))),
            r"\(1, 3\).*expected.*\(4, 3\)",
        ),
        (update(total=(np.ones((4, 3)), np.ones(3))), "float64"),
        (update(total=()), "sent arrays"),
        (update(validation=counts(4), test=counts(4)), "4 classes, expected 3"),
        (update(test=replace(counts(), correct=np.array([2, 1, 1]))), "contradict"),
        (update(test=replace(counts(), loss=float("nan"))), "loss of nan"),
        (
            Confusion(2, "f" * 64, "", counts(), counts(), np.eye(3, dtype=np.int64)),
            "sent 'Confusion', expected Update",
        ),
    ],
)
def test_other_replies_are_left_out_with_the_reason(value: object, words: str) -> None:
    admitted, refused = admit_one(value)
    assert list(admitted) == ["good"]
    assert list(refused) == ["site"]
    assert re.search(words, refused["site"]), refused


def test_confusion_matrix_must_fit() -> None:
    _, refused = admit_one(
        Confusion(2, "f" * 64, classes_digest(CLASSES), counts(), counts(), np.eye(2, dtype=np.int64)),
        Confusion,
    )
    assert "confusion matrix of shape (2, 2)" in refused["site"]


def why_left_out(value: Answer, request: Request) -> str:
    """Why an answer to a request is left out; "" where it is let in."""
    result = admit({"site": [Reply(value)]}, type(value), request=request, terms=TERMS)  # type: ignore[list-item]
    assert set(result.admitted) | set(result.refused) == {"site"}
    return result.refused.get("site", "")


STATED = (2, "f" * 64, classes_digest(CLASSES))
D, C = 4, 3
CONTROLLED = replace(
    TASK, extra={CONTROL: (np.zeros((D, C), np.float32), np.zeros(C, np.float32)), MOMENTS: ()}
)
CHANGE = (np.ones((D, C), np.float32), np.ones(C, np.float32))


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({CONTROL: CHANGE}, "^$"),
        ({}, r"called \[\] .*expected \['control'\]"),
        ({"other": CHANGE}, r"called \['other'\]"),
        ({CONTROL: CHANGE, "other": CHANGE}, r"called \['control', 'other'\]"),
        ({CONTROL: CHANGE, MOMENTS: CHANGE}, r"called \['control', 'moments'\]"),
        ({CONTROL: ()}, "sent arrays"),
        ({CONTROL: CHANGE[:1]}, "sent arrays"),
        ({CONTROL: (CHANGE[0].T, CHANGE[1])}, r"\(3, 4\).*expected.*\(4, 3\)"),
        ({CONTROL: (CHANGE[0].astype(np.float64), CHANGE[1])}, "float64"),
        ({CONTROL: (CHANGE[0] * np.float32(np.nan), CHANGE[1])}, "NaN"),
    ],
)
def test_what_comes_beside_an_update_is_what_its_task_brought(extra: dict, words: str) -> None:
    assert re.search(words, why_left_out(update(extra=extra), CONTROLLED))
    if extra:
        assert why_left_out(update(extra=extra), TASK).startswith("sent arrays called"), (
            "nobody asked for any"
        )


def test_the_bound_on_the_norm_is_of_the_unweighted_update() -> None:
    weighted = update(examples=50, total=(np.full((D, C), 1e3, np.float32), np.ones(C, np.float32)))
    assert why_left_out(weighted, TASK) == ""
    assert "norm 3464, above --max-update-norm 100" in why_left_out(
        weighted, replace(TASK, weighting="uniform")
    )


@pytest.mark.parametrize(
    "matrix",
    [np.eye(2, dtype=np.int64), np.eye(3), -np.eye(3, dtype=np.int64), np.eye(3, dtype=np.int64)[0]],
)
def test_other_matrices_are_left_out(matrix: np.ndarray) -> None:
    assert "sent a confusion matrix of shape" in why_left_out(
        Confusion(*STATED, counts(), counts(), matrix), TASK
    )


@pytest.mark.parametrize(
    "matrix",
    [
        2 * np.eye(3, dtype=np.int64),
        np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]),
    ],
)
def test_a_matrix_has_the_counts_of_its_images(matrix: np.ndarray) -> None:
    assert "contradict each other" in why_left_out(Confusion(*STATED, counts(), counts(), matrix), TASK)
    sound = np.eye(3, dtype=np.int64)
    assert why_left_out(Confusion(*STATED, counts(), counts(), sound), TASK) == ""
