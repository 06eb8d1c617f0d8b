"""Privacy of sites: the noise by the formula, what one site changes, and the adapting bound."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.methods import METHODS
from fedtransfer.server.privacy.mechanism import SiteLevel
from fedtransfer.server.strategies import STRATEGIES
from fedtransfer.server.strategies.strategy import Contribution

HEAD = (np.zeros((4, 3), np.float32), np.zeros(3, np.float32))
SUMMED = [name for name, method in METHODS.items() if method.dp_site.allowed]


def delta(size: float, seed: int = 0) -> tuple[np.ndarray, ...]:
    """A random update of this norm."""
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=array.shape) for array in HEAD]
    norm = math.sqrt(sum((array**2).sum() for array in arrays))
    return tuple((array * size / norm).astype(np.float32) for array in arrays)


def flat(arrays) -> np.ndarray:
    return np.concatenate([np.ravel(array) for array in arrays])


def mean(contribution: Contribution, name: str = "fedavg") -> np.ndarray:
    """What a strategy makes of it: the sum over the fixed number."""
    return flat(STRATEGIES[name].combine([contribution], RunConfig()))


class Silent(np.random.Generator):
    """Draws zeros as noise."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def standard_normal(self, size=None, *_, **__):
        return 0.0 if size is None else np.zeros(size)


def test_noise_is_as_large_as_the_formula_says() -> None:
    """10,005 draws: variances within 4 standard errors, and no entry or draw like another."""
    mechanism, rng = SiteLevel(20.0, 1.5), np.random.default_rng(1)
    z, bound, deltas = 1.5, 0.7, [delta(0.3, k) for k in range(5)]
    draws = np.array([mean(mechanism.release(deltas, HEAD, bound, rng)) for _ in range(667)])
    noise = (draws - sum(flat(d).astype(np.float64) for d in deltas) / 20) * 20
    assert noise.size == 667 * 15 > 10_000
    assert noise.std() == pytest.approx(z * bound, rel=4 / math.sqrt(2 * noise.size))
    assert abs(noise.mean()) < 4 * z * bound / math.sqrt(noise.size)
    correlations = np.corrcoef(noise.T) - np.eye(15)
    assert np.abs(correlations).max() < 5 / math.sqrt(667)
    assert len(np.unique(noise)) == noise.size


@pytest.mark.parametrize("name", SUMMED)
def test_every_strategy_divides_by_the_fixed_number(name: str) -> None:
    mechanism = SiteLevel(2.5, 1.0)
    released = mechanism.release([delta(0.5), delta(0.5, 1)], HEAD, 1.0, Silent())
    np.testing.assert_allclose(
        mean(released, name), (flat(delta(0.5)) + flat(delta(0.5, 1))) / 2.5, rtol=1e-6
    )


def test_a_dropout_changes_neither_noise_nor_denominator() -> None:
    mechanism, deltas = SiteLevel(4.0, 2.0), [delta(0.5, k) for k in range(4)]
    everyone, fewer = (
        mean(mechanism.release(some, HEAD, 1.0, np.random.default_rng(7))) for some in (deltas, deltas[:3])
    )
    nobody = mean(mechanism.release([], HEAD, 1.0, np.random.default_rng(7)))
    np.testing.assert_allclose(everyone - fewer, flat(deltas[3]) / 4, atol=1e-15)
    np.testing.assert_allclose(everyone - nobody, sum(map(flat, deltas)) / 4, atol=1e-7)
    assert nobody.std() > 0.2, "an empty cohort releases noise too"


@given(st.floats(1e-12, 1e38), st.integers(0, 5), st.sampled_from([None, np.nan, np.inf, -np.inf]))
def test_no_update_moves_the_mean_by_more_than_the_bound(
    size: float, seed: int, broken: float | None
) -> None:
    with np.errstate(over="ignore"):
        wild = delta(1.0, seed)
        wild = tuple((array.astype(np.float64) * size).astype(np.float32) for array in wild)
    if broken is not None:
        wild[0][1, 1] = broken
    mechanism, others = SiteLevel(5.0, 1.0), [delta(0.4, 9)]
    with_it = mean(mechanism.release([*others, wild], HEAD, 0.1, np.random.default_rng(0)))
    without = mean(mechanism.release(others, HEAD, 0.1, np.random.default_rng(0)))
    assert np.linalg.norm(with_it - without) <= 0.1 / 5 * (1 + 1e-9)
    assert np.isfinite(with_it).all()
    if not np.isfinite(wild[0]).all():
        np.testing.assert_array_equal(with_it, without)


def test_shares_of_noise_that_sites_have_added_are_only_summed() -> None:
    mechanism = SiteLevel(4.0, 1.0, shared=True)
    released = mechanism.release([delta(9.0)], HEAD, 1.0, np.random.default_rng(0))
    np.testing.assert_allclose(mean(released), flat(delta(9.0)) / 4, rtol=1e-6)
