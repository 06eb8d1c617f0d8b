"""Sums, tallies and what sites say of personal heads: which are let in, and why others are not."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedtransfer.common.head.head import HeadSpec
from fedtransfer.common.wire.protocol import (
    Answer,
    Gather,
    Personal,
    ProtocolError,
    Request,
    Sums,
    Tally,
    Task,
    Trial,
    classes_digest,
)
from fedtransfer.common.wire.records import pack
from fedtransfer.common.wire.sums import NOISY_CLASSES, NOISY_GRAM, pack_triangle
from fedtransfer.server.sites.admission import Terms, admit, check_total

CLASSES = ("a", "b", "c")
TASK = Task("site", 2, CLASSES, ())
TERMS = Terms(CLASSES, "f" * 64, lambda layer: HeadSpec(4, 3), (4, 4))


class Reply:
    """What admission looks at in a Flower message."""

    def __init__(self, value: Answer) -> None:
        self.content = pack(value)

    def has_error(self) -> bool:
        return False


def why_left_out(value: Answer, request: Request, terms: Terms = TERMS) -> str:
    """Why an answer to a request is left out; "" where it is let in."""
    result = admit({"site": [Reply(value)]}, type(value), request=request, terms=terms)  # type: ignore[list-item]
    assert set(result.admitted) | set(result.refused) == {"site"}
    return result.refused.get("site", "")


STATED = (2, "f" * 64, classes_digest(CLASSES))
D, C = 4, 3


def sums(what: str, **changes: Any) -> Sums:
    """Sums of five images of two classes; ``changes``: examples, or functions of the arrays."""
    x, y = np.random.default_rng(0).normal(size=(5, D)), np.array([0, 1, 1, 0, 1])
    z, one_hot = np.column_stack([x, np.ones(5)]), np.eye(C)[y]
    arrays: dict[str, list[Any]] = {
        "classes": [(one_hot.T @ x).astype(np.float32), one_hot.sum(0).astype(np.int64)],
        "gram": [pack_triangle(z.T @ z), z.T @ one_hot],
        "moments": [np.stack([x.sum(0), (x**2).sum(0)])],
        # Noise, as no images have.
        NOISY_CLASSES: [np.random.default_rng(1).normal(0, 9, (C, D)).astype(np.float32)],
        NOISY_GRAM: [
            np.random.default_rng(1).normal(0, 9, s).astype(np.float32) for s in ((D * (D + 1) // 2,), (D, C))
        ],
    }
    return Sums(
        *STATED, changes.get("examples", 5), tuple(changes.get("change", lambda *a: a)(*arrays[what]))
    )


def put(number: int, place: object, value: float):
    """Return a function that puts a value into one of some arrays."""

    def change(*arrays: Any) -> Any:
        arrays[number][place] = value
        return arrays

    return change


@pytest.mark.parametrize("what", ["classes", "gram", "moments", NOISY_CLASSES, NOISY_GRAM])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "^$"),
        ({"examples": 0}, "0 training images"),
        ({"change": lambda *a: a[:-1]}, r"^sent sums .*expected \(\("),
        ({"change": lambda *a: (*a, a[0])}, r"^sent sums .*expected \(\("),
        ({"change": lambda *a: (a[0][..., :-1], *a[1:])}, r"^sent sums .*expected \(\("),
        ({"change": lambda *a: (a[0].astype(np.float16), *a[1:])}, "^sent sums .*float16.*expected"),
        ({"change": put(0, 0, np.nan)}, "sums with NaN or infinite values"),
        ({"change": put(0, 0, np.inf)}, "sums with NaN or infinite values"),
    ],
)
def test_sums_must_be_those_that_were_asked_for(what: str, changes: dict, words: str) -> None:
    assert re.search(words, why_left_out(sums(what, **changes), Gather("site", 2, CLASSES, what)))


@pytest.mark.parametrize(
    ("what", "changes", "words"),
    [
        ("classes", {"examples": 6}, "its 6 training images"),
        ("classes", {"change": put(1, 0, -2)}, "do not add up to its 5"),
        # In 64 bits the sum of these is 5.
        ("classes", {"change": put(1, slice(None), [2**63 - 1, 2**63 - 1, 7])}, "do not add up to its 5"),
        ("classes", {"change": put(0, 2, 1.0)}, "no images"),
        ("gram", {"examples": 4}, "do not add up to its 4"),
        ("gram", {"change": put(1, (-1, slice(None)), [2.5, 2.5, 0])}, "do not add up to its 5"),
        ("gram", {"change": put(0, 0, -1.0)}, "sums of squares that 5 images"),
        ("gram", {"change": put(0, D, 3.0)}, "contradict each other"),
        ("moments", {"change": put(0, (1, 0), -1.0)}, "sums of squares that 5 images"),
        ("moments", {"change": put(0, (0, 0), 100.0)}, "sums of squares that 5 images"),
    ],
)
def test_sums_that_no_images_have_are_left_out(what: str, changes: dict, words: str) -> None:
    assert words in why_left_out(sums(what, **changes), Gather("site", 2, CLASSES, what))


def test_sums_of_another_kind_are_no_answer() -> None:
    assert why_left_out(sums("gram"), Gather("site", 2, CLASSES, "classes")).startswith("sent sums ")
    assert (
        why_left_out(sums("gram"), Gather("site", 3, CLASSES, "gram")) == "answered round 2, expected round 3"
    )
    terms = replace(TERMS, widths=(7, D))  # moments are of features as the backbone gives them
    assert "(2, 7)" in why_left_out(sums("moments"), Gather("site", 2, CLASSES, "moments"), terms)
    assert why_left_out(sums("gram"), Gather("site", 2, CLASSES, "gram"), terms) == ""


TRIAL = Trial("site", 2, CLASSES, ((), ()), (1.0, 2.0, 4.0))


def tally(**changes: Any) -> Tally:
    good = Tally(*STATED, 4, np.ones((2, 3)))
    return replace(good, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "^$"),
        ({"images": 0, "losses": np.zeros((2, 3))}, "^$"),
        ({"losses": np.ones((2, 1))}, r"\(2, 1\).*expected.*\(2, 3\)"),
        ({"losses": np.ones((2, 3), np.float32)}, "float32"),
        ({"losses": np.full((2, 3), np.nan)}, "NaN or infinite"),
        ({"losses": np.full((2, 3), np.inf)}, "NaN or infinite"),
        ({"losses": np.full((2, 3), -0.1)}, "expected a number of 0 or more"),
        ({"losses": np.full((2, 3), 111.0)}, "a loss of 111 over 4 images, expected at most 27.6 an image"),
        ({"images": 0}, "over 0 images"),
        ({"images": -4}, "contradict"),
        ({"round": 9}, "answered round 9, expected round 2"),
        ({"classes": "0" * 16}, "another list of class names"),
    ],
)
def test_a_tally_must_fit_the_trial(changes: dict, words: str) -> None:
    assert re.search(words, why_left_out(tally(**changes), TRIAL))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "^$"),
        ({"images": 0, "correct": np.zeros(4, np.int64), "share": 0.0}, "^$"),
        ({"correct": np.array([1, 2, 3])}, r"\(3,\).*expected.*\(4,\)"),
        ({"correct": np.ones(4)}, "float64.*expected.*int64"),
        ({"correct": np.array([1, 2, 3, 6])}, "contradict"),
        ({"correct": np.array([1, 2, 3, -1])}, "contradict"),
        ({"images": -1, "correct": np.zeros(4, np.int64)}, "contradict"),
        ({"share": 1.01}, "contradict"),
        ({"share": -0.01}, "contradict"),
        ({"share": float("nan")}, "contradict"),
    ],
)
def test_what_a_site_says_of_personal_heads_must_be_possible(changes: dict, words: str) -> None:
    good = Personal(*STATED, 5, np.array([5, 0, 3, 4]), 0.5)
    assert re.search(words, why_left_out(replace(good, **changes), TASK))


def test_a_total_of_sums_has_numbers_of_images_that_agree() -> None:
    """Under masks they are exact, and one that a mask is left on is not."""
    for what in ("classes", "gram", "moments", NOISY_CLASSES, NOISY_GRAM):
        request = Gather("", 2, CLASSES, what)
        check_total(sums(what), request, TERMS)
        if what in ("classes", "gram"):
            with pytest.raises(ProtocolError, match="its 6 training images"):
                check_total(sums(what, examples=6), request, TERMS)
