"""Answers as vectors that add up."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.common.errors import SiteError
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.masks.vector import (
    COARSE,
    PLACES,
    decode,
    encode,
    largest,
    length,
    places,
    rounding_error,
)
from fedtransfer.common.wire.protocol import Confusion, Gather, Personal, Scores, Sums, Tally, Task, Update

STATED = (1, "f" * 64, "c" * 16)


def counts(seed: int) -> Counts:
    rng = np.random.default_rng(seed)
    return Counts.of(rng.dirichlet(np.ones(3), 40).astype(np.float32), rng.integers(0, 3, 40))


def answers(seed: int) -> list:
    rng = np.random.default_rng(seed)
    head = rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    scores = (*STATED, counts(seed), counts(seed + 1))
    return [
        Scores(*scores),
        Update(*scores, 17 + seed, head),
        Update(*scores, 17 + seed, head, {"control": head, "another": head[:1]}),
        Confusion(*scores, rng.integers(0, 9, (3, 3))),
        Sums(*STATED, 5, (rng.normal(size=(3, 4)).astype(np.float32), rng.integers(0, 9, 3))),
        Sums(*STATED, 5, (rng.normal(size=6), rng.normal(size=(3, 2)))),
        Tally(*STATED, 3, rng.random((2, 5))),
        Personal(*STATED, 4, rng.integers(0, 4, 4), 0.3),
    ]


def flat(value: object) -> np.ndarray:
    """All numbers of a value, in float64."""
    if isinstance(value, dict):
        value = [value[key] for key in sorted(value)]
    if isinstance(value, Counts):
        value = list(vars(value).values())
    if isinstance(value, tuple | list):
        return np.concatenate([np.zeros(0), *map(flat, value)])
    return np.ravel(np.asarray(value, np.float64))


def numbers(answer: object) -> np.ndarray:
    return flat(
        [value for name, value in vars(answer).items() if name not in ("round", "fingerprint", "classes")]
    )


@pytest.mark.parametrize("kind", range(8))
def test_every_number_of_every_answer_adds_up(kind: int) -> None:
    sent = [answers(seed)[kind] for seed in range(7)]
    rng = np.random.default_rng(0)
    vectors = [encode(answer, 7, rng) for answer in sent]
    total = decode(np.sum(vectors, axis=0, dtype=np.uint64), sent[0], 7)
    assert type(total) is type(sent[0])
    assert (total.round, total.fingerprint, total.classes) == STATED
    expected = sum(map(numbers, sent))
    assert len(expected) == length(sent[0]) == len(vectors[0])
    apart = abs(numbers(total) - expected)
    assert apart.max() < rounding_error(7, COARSE), "no number is further than its bound"
    for name in ("total", "arrays", "extra", "share"):
        if hasattr(sent[0], name):
            apart = abs(flat(getattr(total, name)) - sum(flat(getattr(answer, name)) for answer in sent))
            assert apart.max(initial=0) < rounding_error(7)
    for name in ("examples", "images", "correct", "matrix"):
        if hasattr(sent[0], name):
            np.testing.assert_array_equal(getattr(total, name), sum(getattr(answer, name) for answer in sent))
            assert np.asarray(getattr(total, name)).dtype.kind == "i", "counts are exact"


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=1, max_size=9),
    st.integers(0, 2**32),
    st.sampled_from([PLACES, COARSE]),
)
def test_a_sum_is_within_its_bound_of_the_true_one(rows: list[list[float]], seed: int, bits: int) -> None:
    sent = [Sums(*STATED, 1, (np.array(row),)) for row in rows]
    vectors = [encode(answer, len(rows), np.random.default_rng(seed), bits) for answer in sent]
    total = decode(np.sum(vectors, axis=0, dtype=np.uint64), sent[0], len(rows), bits)
    apart = abs(total.arrays[0] - np.sum(np.array(rows, np.longdouble), axis=0))
    assert (apart < rounding_error(len(rows), bits) + 1e-9).all()
    assert total.examples == len(rows)


@given(st.integers(1, 1000), st.sampled_from([1, -1]), st.sampled_from([PLACES, COARSE]))
def test_the_largest_numbers_never_wrap_and_beyond_is_refused(sites: int, sign: int, bits: int) -> None:
    below = np.nextafter(largest(sites, bits), 0)
    rng = np.random.default_rng(0)
    whole = int(largest(sites, 0)) - 1
    answer = Sums(*STATED, sign * whole, (np.array([sign * below * (1 - 1e-6)]),))
    vector = encode(answer, sites, rng, bits)
    with np.errstate(over="ignore"):
        total = decode(vector * np.uint64(sites), answer, sites, bits)
    assert total.examples == sign * whole * sites
    assert total.arrays[0][0] == pytest.approx(sites * answer.arrays[0][0], rel=1e-12)
    for beyond in (largest(sites, bits), np.nan, np.inf):
        # A cast of such a number to whole ones differs by machine: it must not come to that.
        with (
            np.errstate(invalid="raise"),
            pytest.raises(SiteError, match=f"added over {sites} sites under") as caught,
        ):
            encode(replace(answer, arrays=(np.array([sign * beyond]),)), sites, rng, bits)
        assert caught.value.code == "beyond-bound"
    with pytest.raises(SiteError, match="too large"):
        encode(replace(answer, examples=sign * (whole + 1)), sites, rng, bits)


def test_rounding_is_up_or_down_at_random_and_right_in_the_mean() -> None:
    value = 0.3 * 2.0**-PLACES  # a number between two steps
    answer = Sums(*STATED, 1, (np.full(40_000, value),))
    whole = encode(answer, 10, np.random.default_rng(0)).view(np.int64)[1:]
    assert set(whole) == {0, 1}
    assert whole.mean() == pytest.approx(0.3, abs=0.01)
    below = encode(replace(answer, arrays=(-answer.arrays[0],)), 10, np.random.default_rng(0)).view(np.int64)[
        1:
    ]
    assert set(below) == {-1, 0}
    assert below.mean() == pytest.approx(-0.3, abs=0.01)


def test_whole_numbers_in_place_of_arrays_travel_as_they_are() -> None:
    answer = answers(0)[1]
    noised = [np.full((5, 3), 2**40), np.arange(3)]
    vector = encode(answer, 5, np.random.default_rng(0), instead={"total": noised})
    total = decode(vector, answer, 5)
    assert (total.total[0] == 2.0**12).all()
    np.testing.assert_array_equal(total.total[1], np.arange(3) * 2.0**-PLACES)
    assert total.examples == answer.examples
    with pytest.raises(SiteError, match="too large"):
        encode(answer, 5, np.random.default_rng(0), instead={"total": [noised[0], np.full(3, 2**61)]})


@pytest.mark.parametrize("sites", [3, 4, 5, 8, 32, 100, 128])
def test_what_is_still_masked_is_no_total(sites: int) -> None:
    """Also where the sites are a power of two, whose largest sums would fill a whole number."""
    answer, rng = answers(0)[1], np.random.default_rng(0)
    for _ in range(50):
        with pytest.raises(ValueError, match="no vectors of the sites add up to"):
            decode(rng.integers(0, 2**64, length(answer), np.uint64), answer, sites)
    one, passed = Sums(*STATED, 0, ()), 0
    for number in rng.integers(0, 2**64, 4000, np.uint64):
        try:
            passed += decode(np.array([number]), one, sites) is not None
        except ValueError:
            continue
    assert passed / 4000 < 0.08, "of single numbers one in 16"


def test_what_is_of_another_length_is_no_total() -> None:
    answer = answers(0)[1]
    with pytest.raises(ValueError, match="a total of 3 numbers"):
        decode(np.zeros(3, np.uint64), answer, 5)


def test_moments_of_raw_features_have_fewer_places() -> None:
    assert places(Gather("s", 0, ("a",), "moments")) == COARSE < PLACES
    assert places(Gather("s", 0, ("a",), "gram")) == places(Task("s", 1, ("a",), ())) == PLACES
    assert largest(100, COARSE) > 4e9
