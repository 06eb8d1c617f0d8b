import math

import numpy as np
import pytest
from example_counts import ALL
from scipy.stats import kstest

from fedtransfer.common.privacy import gaussian
from fedtransfer.common.privacy.gaussian import NoiseSource, secret_generator


@pytest.mark.parametrize(
    ("size", "vectors"),
    [
        pytest.param(1, 1, marks=pytest.mark.full),
        pytest.param(1, 3, marks=pytest.mark.full),
        (2, 1),
        (7, 1),
        (7, 14_285),
        (20_490, 1),
        (20_490, 8),
    ],
)
def test_draws_are_normal_independent_and_new_each_time(size: int, vectors: int) -> None:
    """As many vectors as the source was told of, or more, or fewer.

    Tolerances are of 3.3 standard deviations. Short vectors take long, so there are fewer of them.
    """
    source = NoiseSource(size, 0.5, np.random.default_rng(1), vectors)
    n = 100_000 if ALL or size > 7 else 8_000 * size
    drawn, wide = np.stack([source.draw().copy() for _ in range(n // size)]), math.sqrt(100_000 / n)
    assert drawn.dtype == np.float32
    assert drawn.shape[1] == size
    assert kstest(drawn.ravel() / 0.5, "norm").pvalue > 0.01
    assert np.mean(np.square(drawn / 0.5)) == pytest.approx(1, abs=0.015 * wide)
    half = -(-size // 2)
    for one, other in ((drawn[1:], drawn[:-1]), (drawn[:, half:], drawn[:, : size - half])):
        if one.size:  # neither a vector with the one before, nor the two of a pair, in size or sign
            assert abs(np.mean(one * other)) / 0.25 < 0.015 * wide
            assert abs(np.mean((np.square(one / 0.5) - 1) * (np.square(other / 0.5) - 1))) < 0.03 * wide


@pytest.mark.parametrize("deviation", [0.0, 1e-30, 3.0, 1e30])
def test_draws_have_the_deviation_that_is_asked_for(deviation: float) -> None:
    drawn = NoiseSource(100_000, deviation, np.random.default_rng(5)).draw()
    assert drawn.std(dtype=np.float64) == pytest.approx(deviation, rel=0.01)


def test_draws_reach_far_out() -> None:
    """One draw in 1.7 million is beyond 5 deviations: to cut these off would void a guarantee."""
    source = NoiseSource(4_000_000, 1.0, np.random.default_rng(2))
    drawn = np.abs(source.draw().astype(np.float64))
    assert np.isfinite(drawn).all()
    for far, expected in ((4, 253.4), (4.5, 27.2)):
        assert (drawn > far).sum() == pytest.approx(expected, abs=5 * expected**0.5)
    assert drawn.max() > 4.7


def test_far_out_draws_are_not_few_values_far_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """Radii of the smallest word alone spread from 6.6 to beyond 7: with 32 bits all are 6.76."""
    monkeypatch.setattr(gaussian, "_FAR", 2**32)
    source = NoiseSource(20_000, 1.0, np.random.default_rng(4))
    source._stream = Zeros(source._stream)
    radii = np.hypot(*source.draw().reshape(2, -1))
    assert radii.min() == pytest.approx(np.sqrt(2 * 32 * np.log(2)), abs=1e-3)
    assert len(np.unique(radii)) > 9_000
    assert (radii > 7).mean() == pytest.approx(2**32 * np.exp(-49 / 2), rel=0.1)


def test_the_farthest_draw_is_finite_and_where_it_is_said_to_be() -> None:
    """All 64 bits of a radius 0, all 32 of an angle."""
    source = NoiseSource(2, 1.0, np.random.default_rng(4))
    source._stream = Zeros(source._stream)
    source._stream.update = lambda data: bytes(len(data))
    np.testing.assert_allclose(source.draw(), [np.sqrt(2 * 65 * np.log(2)), 0], rtol=1e-6)


class Zeros:
    """A stream whose first words, but not those that refine them, are 0."""

    def __init__(self, stream: object) -> None:
        self.update = stream.update

    def update_into(self, data: bytes, buffer: memoryview) -> None:
        buffer[:] = bytes(len(buffer))


def test_no_two_sources_are_alike() -> None:
    first, second = (NoiseSource(8, 1.0, secret_generator()).draw() for _ in range(2))
    assert not (first == second).any()
    rng = np.random.default_rng(3)
    first, second = (NoiseSource(8, 1.0, rng).draw() for _ in range(2))
    assert not (first == second).any()
