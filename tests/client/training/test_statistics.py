"""A site's sums against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.client.training import statistics
from fedtransfer.client.training.statistics import site_sums
from fedtransfer.common.errors import SiteError
from fedtransfer.common.wire.sums import KINDS, layout, unpack_triangle


def images(seed: int, n: int, d: int = 5, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(1, 1, (n, d)).astype(np.float32), rng.integers(0, classes, n)


@pytest.mark.parametrize("what", KINDS)
@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 6))
def test_sums_are_laid_out_as_agreed(what: str, n: int, d: int, classes: int) -> None:
    made = site_sums(what, *images(n, n, d, classes), classes)
    assert tuple((str(array.dtype), array.shape) for array in made) == layout(what, d, classes)


@given(st.integers(0, 10**6), st.integers(1, 60))
def test_sums_are_those_of_their_definition(seed: int, n: int) -> None:
    x, y = images(seed, n)
    z, one_hot = np.column_stack([x, np.ones(n)]).astype(np.float64), np.eye(4)[y]

    totals, counts = site_sums("classes", x, y, 4)
    np.testing.assert_allclose(totals, one_hot.T @ x, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(counts, one_hot.sum(0))

    packed, right = site_sums("gram", x, y, 4)
    np.testing.assert_allclose(unpack_triangle(packed), z.T @ z, rtol=1e-12)
    np.testing.assert_allclose(right, z.T @ one_hot, rtol=1e-12, atol=1e-12)

    [moments] = site_sums("moments", x, y, 4)
    np.testing.assert_allclose(moments, [z[:, :-1].sum(0), (z[:, :-1] ** 2).sum(0)], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("block", [1, 7, 100, 299, 300, 4096])
def test_blocks_of_any_size_give_the_same_sums(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = images(0, 300)
    whole = {what: site_sums(what, x, y, 4) for what in KINDS}
    monkeypatch.setattr(statistics, "BLOCK", block)
    for what in KINDS:
        tolerance = 1e-6 if what == "classes" else 1e-12  # they are cast to float32
        for array, expected in zip(site_sums(what, x, y, 4), whole[what], strict=True):
            np.testing.assert_allclose(array, expected, rtol=tolerance)


def test_class_sums_are_exact_where_float32_would_round() -> None:
    """1e8 + 1 - 1e8 is 0 in float32."""
    x = np.array([[1e8], [1.0], [-1e8]], np.float32)
    np.testing.assert_array_equal(site_sums("classes", x, np.zeros(3, np.int64), 1)[0], [[1.0]])


def test_unknown_sums_are_refused() -> None:
    with pytest.raises(SiteError, match="'images', expected classes or gram or moments"):
        site_sums("images", *images(0, 3), 4)
