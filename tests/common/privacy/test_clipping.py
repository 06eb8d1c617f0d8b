"""No unit adds more than the bound, whatever it holds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fedtransfer.common.privacy.discrete import integer_sensitivity, rounded
from fedtransfer.common.privacy.gaussian import clipped, clipped_rows, norm

ROUNDING = 1 + 1e-12
BOUNDS = st.floats(1e-10, 1e10)
ANYTHING = st.floats(width=64) | st.sampled_from(
    [0.0, 5e-324, 1e-310, 1e300, -1e308, np.inf, -np.inf, np.nan]
)


def exact_norm(parts: tuple[np.ndarray, ...]) -> float:
    """In extended precision, which has a wider range too."""
    return float(np.sqrt(sum(np.square(part.astype(np.longdouble)).sum() for part in parts)))


@given(
    st.lists(arrays(np.float64, array_shapes(max_dims=2, max_side=4), elements=ANYTHING), max_size=3), BOUNDS
)
def test_a_unit_is_never_longer_than_the_bound(unit: list[np.ndarray], bound: float) -> None:
    result = clipped(unit, bound)
    assert [part.shape for part in result] == [part.shape for part in unit]
    assert all(part.dtype == np.float64 for part in result)
    assert exact_norm(result) <= bound * ROUNDING
    if not all(np.isfinite(part).all() for part in unit):
        assert not any(part.any() for part in result)
    elif exact_norm(tuple(unit)) <= bound / ROUNDING:
        assert all(np.array_equal(*both) for both in zip(result, unit, strict=True))


@given(arrays(np.float64, st.tuples(st.integers(0, 4), st.integers(0, 4)), elements=ANYTHING), BOUNDS)
def test_a_row_is_never_longer_than_the_bound(x: np.ndarray, bound: float) -> None:
    result = clipped_rows(x, bound)
    assert result.shape == x.shape
    for row, before in zip(result, x, strict=True):
        assert np.array_equal(row, clipped([before], bound)[0]) or np.allclose(
            row, clipped([before], bound)[0], rtol=1e-12
        )
        assert exact_norm((row,)) <= bound * ROUNDING


@pytest.mark.parametrize("factor", [1e6, 1e150, 1e300])
def test_what_is_too_long_keeps_its_direction(factor: float) -> None:
    unit = [np.array([3.0, 0.0]), np.array([[4.0]])]
    long = clipped([part * factor for part in unit], 0.5)
    assert all(
        np.allclose(*both, rtol=1e-12)
        for both in zip(long, [np.array([0.3, 0.0]), np.array([[0.4]])], strict=True)
    )
    assert np.allclose(clipped_rows(np.array([[3.0, 4.0]]) * factor, 0.5), [[0.3, 0.4]], rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_not_a_number_adds_zeros_wherever_it_is(bad: float, place: int) -> None:
    """Behind parts that are all zeros, too: the largest of zero and NaN is NaN."""
    for rest in (0.0, 1.0):
        unit = [np.full(2, rest) for _ in range(3)]
        unit[place][1] = bad
        assert not np.isfinite(norm(unit))
        assert all(np.array_equal(part, np.zeros(2)) for part in clipped(unit, 1.0))
        rows = np.full((3, 3), rest)
        rows[place, 1] = bad
        assert np.array_equal(np.flatnonzero(~clipped_rows(rows, 9.0).any(1)), [place] if rest else [0, 1, 2])


def test_narrow_floats_are_measured_in_wide_ones() -> None:
    big = np.full(4, 6e4, np.float16)  # whose squares float16 does not have
    assert norm([big]) == pytest.approx(norm([big.astype(np.float64)]))
    assert norm(clipped([big], 1.0)) == pytest.approx(1.0, abs=1e-12)
    assert np.linalg.norm(clipped_rows(np.full((1, 4), 3e38, np.float32), 1.0)) == pytest.approx(
        1.0, abs=1e-12
    )


@given(
    arrays(np.float64, 8, elements=ANYTHING),
    st.floats(0.01, 100),
    st.sampled_from([1.0, 2.0**8, 2.0**28]),
    arrays(np.float64, 8, elements=st.floats(-100, 100)),
    st.integers(0, 2**32),
)
def test_one_unit_changes_a_rounded_sum_by_the_integer_sensitivity_at_most(
    unit: np.ndarray, bound: float, scale: float, others: np.ndarray, seed: int
) -> None:
    with_it, without = (
        rounded([total], scale, np.random.default_rng(seed))[0]
        for total in (others + clipped([unit], bound)[0], others)
    )
    assert exact_norm((with_it - without,)) <= integer_sensitivity(bound, scale, 8)
