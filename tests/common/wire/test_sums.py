"""How sums are laid out, and which ones cannot be."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.client.training.statistics import site_sums
from fedtransfer.common.wire.protocol import ProtocolError, Sums
from fedtransfer.common.wire.sums import KINDS, check_sums, layout, pack_triangle, unpack_triangle

D, C, N = 4, 3, 20


def sums_of(what: str, n: int = N, scale: float = 1.0) -> Sums:
    rng = np.random.default_rng(n)
    # None of the last class.
    x, y = ((scale * rng.normal(size=(n, D))).astype(np.float32), rng.integers(0, C - 1, n))
    return Sums(1, "", "", n, site_sums(what, x, y, C))


def changed(sums: Sums, number: int, change: Callable[[Any], Any]) -> Sums:
    arrays = [array.copy() for array in sums.arrays]
    arrays[number] = change(arrays[number])
    return replace(sums, arrays=tuple(arrays))


def put(place: Any, value: float) -> Callable[[Any], Any]:
    def change(array: np.ndarray) -> np.ndarray:
        array[place] = value
        return array

    return change


@given(st.integers(1, 40), st.integers(0, 10**6))
def test_a_packed_triangle_comes_back_as_it_was(size: int, seed: int) -> None:
    a = np.random.default_rng(seed).normal(size=(size, size))
    packed = pack_triangle(a + a.T)
    assert packed.shape == (size * (size + 1) // 2,)
    np.testing.assert_array_equal(packed[:size], (a + a.T)[0])  # row by row
    np.testing.assert_array_equal(unpack_triangle(packed), a + a.T)


def test_bytes_of_a_gram_matrix_are_those_that_are_told() -> None:
    shapes = [shape for _, shape in layout("gram", 2048, 10)]
    assert sum(8 * int(np.prod(shape)) for shape in shapes) == 8 * (2049 * 2050 // 2 + 2049 * 10)


@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize(("n", "scale"), [(0, 1.0), (1, 1.0), (N, 1.0), (N, 1e-6), (N, 1e6)])
def test_what_a_site_makes_is_let_in(what: str, n: int, scale: float) -> None:
    check_sums(sums_of(what, n, scale), what, D, C)


@pytest.mark.parametrize(
    ("what", "number", "change", "why"),
    [
        ("classes", 0, lambda a: a.astype(np.float64), "expected"),
        ("classes", 0, lambda a: a[:, :-1], "expected"),
        ("classes", 0, put((0, 0), np.nan), "NaN"),
        ("classes", 1, put(0, N), "do not add up to its 20"),
        ("classes", 1, lambda a: a + np.array([1, 0, -1]), "do not add up to its 20"),
        ("classes", 0, put((-1, 0), 1.0), "a class of which it has no images"),
        ("gram", 0, lambda a: a[:-1], "expected"),
        ("gram", 0, put(0, np.inf), "infinite"),
        ("gram", 0, put(0, -1.0), "cannot have"),
        ("gram", 0, put(-1, N + 1.0), "cannot have"),
        ("gram", 0, put(D, 5.0), "contradict each other"),
        ("gram", 0, put(D, 1e3), "cannot have"),
        ("gram", 1, put((0, 0), 5.0), "contradict each other"),
        ("gram", 1, lambda a: a + np.array([*[[0, 0, 0]] * D, [0.5, -0.5, 0]]), "do not add up to"),
        ("moments", 0, put((1, 0), -1.0), "cannot have"),
        ("moments", 0, put((0, 0), 1e3), "cannot have"),
    ],
)
def test_what_no_images_can_give_is_refused(
    what: str, number: int, change: Callable[[Any], Any], why: str
) -> None:
    with pytest.raises(ProtocolError, match=why):
        check_sums(changed(sums_of(what), number, change), what, D, C)


@pytest.mark.parametrize("what", ["classes", "gram"])
def test_more_examples_than_there_are_images_are_refused(what: str) -> None:
    with pytest.raises(ProtocolError, match="do not add up to its 21 training images"):
        check_sums(replace(sums_of(what), examples=N + 1), what, D, C)


def test_other_sums_than_were_asked_for_are_refused() -> None:
    with pytest.raises(ProtocolError, match="sent sums"):
        check_sums(sums_of("moments"), "gram", D, C)
