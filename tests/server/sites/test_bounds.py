"""What a site reports later is bounded by what it reported at joining."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.wire.protocol import (
    Answer,
    Description,
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
)
from fedtransfer.server.sites.bounds import check_counts, check_description, check_matrix

STATED = (2, "f" * 64, "c" * 16)
CLASSES = ("a", "b")
JOINED = np.array([[5, 2, 3], [1, 4, 0]])  # training, validation and test images of both classes
TASK = Task("site", 2, CLASSES, ())


def counts(*images: int) -> Counts:
    array = np.array(images)
    return Counts(array, array, array, 0.0)


SCORES = Scores(*STATED, counts(2, 4), counts(3, 0))
UPDATE = Update(*STATED, counts(2, 4), counts(3, 0), 6)


def gram(*images: float) -> tuple[np.ndarray, ...]:
    return np.zeros(3), np.array([[0.0, 0.0], images])


@pytest.mark.parametrize(
    ("answer", "request_", "words"),
    [
        (UPDATE, TASK, ""),
        (replace(UPDATE, examples=1), TASK, ""),
        (replace(UPDATE, examples=7), TASK, "reported 7 training images, and 6 at joining"),
        (replace(UPDATE, examples=2**53 - 1), TASK, "reported 9007199254740991 training images, and 6"),
        (SCORES, TASK, ""),
        (
            replace(SCORES, validation=counts(3, 3)), TASK,
            "reported 3 validation images of a class, and 2 at joining",
        ),
        (replace(SCORES, test=counts(0, 1)), TASK, "reported 1 test images of a class, and 0 at joining"),
        (
            Sums(*STATED, 12, (np.zeros((2, 3)), np.array([10, 2]))),
            Gather("site", 0, CLASSES, "classes"), "",
        ),
        (
            Sums(*STATED, 13, (np.zeros((2, 3)), np.array([11, 2]))), Gather("site", 0, CLASSES, "classes"),
            "reported 7 training images, and 6",
        ),
        (
            Sums(*STATED, 12, (np.zeros((2, 3)), np.array([9, 3]))), Gather("site", 0, CLASSES, "classes"),
            "reported 2 training images of a class, and 1",
        ),
        (Sums(*STATED, 12, gram(9, 3)), Gather("site", 0, CLASSES, "gram"), "2 training images of a class"),
        (Sums(*STATED, 12, gram(10, 2)), Gather("site", 0, CLASSES, "gram"), ""),
        (Sums(*STATED, 14, (np.zeros((2, 3)),)), Gather("site", 0, CLASSES, "moments"), "7 training images"),
        (Tally(*STATED, 6, np.zeros((1, 1))), Trial("site", 0, CLASSES, (), ()), ""),
        (Tally(*STATED, 7, np.zeros((1, 1))), Trial("site", 0, CLASSES, (), ()), "7 validation images"),
        (Personal(*STATED, 3, np.zeros(4, np.int64), 0.5), TASK, ""),
        (Personal(*STATED, 4, np.zeros(4, np.int64), 0.5), TASK, "reported 4 test images, and 3 at joining"),
    ],
)  # fmt: skip
def test_no_count_exceeds_that_at_joining(answer: Answer, request_: Request, words: str) -> None:
    """Sums have two rows for each training image here."""
    if not words:
        check_counts(answer, request_, JOINED, 2)
        return
    with pytest.raises(ProtocolError, match=re.escape(words)):
        check_counts(answer, request_, JOINED, 2)


@pytest.mark.parametrize(
    ("images", "most", "words"),
    [
        ({"a": (5, 2, 3), "b": (1, 4, 0)}, 6, ""),
        ({}, 6, ""),
        ({"a": (5, 2, 3), "b": (2, 4, 0)}, 6, "reported 7 training images, above --max-examples 6"),
        ({"a": (5, 3, 3), "b": (1, 4, 0)}, 6, "reported 7 validation images, above --max-examples 6"),
        ({"a": (5, 3, 7)}, 6, "reported 7 test images, above --max-examples 6"),
        ({"a": (2**31 - 1, 0, 0)}, 0, ""),
        ({"a": (2**31, 0, 0)}, 0, "reported 2147483648 images of a class, expected 0 to 2147483647"),
        ({"a": (5, -1, 0)}, 0, "reported -1 images of a class"),
    ],
)
def test_counts_at_joining_are_bounded_too(
    images: Mapping[str, tuple[int, int, int]], most: int, words: str
) -> None:
    description: Any = Description(images, 0)
    if not words:
        check_description(description, most)
        return
    with pytest.raises(ProtocolError, match=re.escape(words)):
        check_description(description, most)


def test_a_matrix_whose_sums_wrap_has_not_the_counts_that_these_give() -> None:
    largest = np.iinfo(np.int64).max
    matrix = np.array([np.roll([1, largest, largest, 2], k) for k in range(4)])
    assert matrix.sum(0).tolist() == matrix.sum(1).tolist() == [1, 1, 1, 1]
    with pytest.raises(ProtocolError, match="contradict each other"):
        check_matrix(matrix, counts(1, 1, 1, 1))
    check_matrix(np.eye(4, dtype=np.int64), counts(1, 1, 1, 1))


def test_a_site_invents_no_classes_without_end() -> None:
    """Each would widen the head, which every site gets in every round."""
    description = Description({f"class {number}": (1, 0, 0) for number in range(1001)}, 0)
    with pytest.raises(ProtocolError, match=r"reported 1001 classes, expected at most 1000 .*--class-names"):
        check_description(description, 0)
    check_description(description, 0, declared=True)
