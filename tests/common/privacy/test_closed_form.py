"""One release of noisy sums: what one image changes, the noise, and what is left without it."""

import math

import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedtransfer.client.training.statistics import clipped_sums, released_sums
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.privacy.closed_form import (
    gram_matrix,
    gram_vector,
    sensitivity,
    site_deviation,
    total_deviation,
)
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.common.wire.sums import NOISY_CLASSES, NOISY_GRAM, NOISY_KINDS, layout, one_shot_sums

D, C = 5, 3
STRATEGIES = ("fedncm", "fed3r")
CONTENT = st.one_of(
    st.floats(-1, 1, width=32),
    st.floats(width=32),
    st.sampled_from([1e6, -1e6, 3e38, 1e-40, math.nan, math.inf]),
)


def config(strategy: str, **changes) -> RunConfig:
    return RunConfig(
        **{
            "strategy": strategy,
            "dp": "image",
            "noise_multiplier": 1.5,
            "classes": "declared",
            "class_names": "a,b,c",
        }
        | changes
    )


def images(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, D)).astype(np.float32), rng.integers(0, C, n)


@pytest.mark.parametrize("what", NOISY_KINDS)
@examples(50, 150)
@given(
    arrays(np.float32, (1, D), elements=CONTENT),
    st.integers(0, C - 1),
    st.floats(0.05, 20),
    st.integers(0, 9),
)
def test_no_image_changes_the_sums_by_more_than_the_sensitivity(what: str, image, label, clip, place) -> None:
    x, y = images(9)
    before = clipped_sums(what, x, y, C, clip)
    after = clipped_sums(what, np.insert(x, place, image, 0), np.insert(y, place, label), C, clip)
    change = math.sqrt(sum(float(np.square(a - b).sum()) for a, b in zip(after, before, strict=True)))
    assert change <= sensitivity(what, clip) * (1 + 1e-9)


@pytest.mark.parametrize("what", NOISY_KINDS)
@pytest.mark.parametrize("clip", [0.3, 1.0, 4.0])
def test_a_long_image_changes_the_sums_by_all_of_the_sensitivity(what: str, clip: float) -> None:
    """So the noise is not larger than it must be either."""
    image = np.random.default_rng(1).normal(size=(1, D)).astype(np.float32) * np.float32(1e6)
    change = clipped_sums(what, image, np.array([2]), C, clip)
    assert math.sqrt(sum(float(np.square(a).sum()) for a in change)) == pytest.approx(sensitivity(what, clip))


@given(st.integers(1, 12), st.integers(0, 10**6))
def test_a_gram_matrix_keeps_its_norm_as_a_vector_and_comes_back(size: int, seed: int) -> None:
    a = np.random.default_rng(seed).normal(size=(size, size))
    vector = gram_vector(a + a.T)
    assert np.linalg.norm(vector) == pytest.approx(np.linalg.norm(a + a.T))
    np.testing.assert_allclose(gram_matrix(vector), a + a.T, rtol=1e-14)


@pytest.mark.parametrize("n", [0, 40])
def test_noise_on_the_gram_matrix_is_that_of_the_formula(n: int) -> None:
    """A site without images releases as much as any other.

    A deviation of 2,000 draws has one of 1.6 %, so 6 % is nearly four.
    """
    run, rng = config("fed3r", clip=0.5), np.random.default_rng(2)
    x, y = images(n)
    vector, by_class = clipped_sums(NOISY_GRAM, x, y, C, 0.5)
    drawn = [released_sums(x, y, C, run, rng) for _ in range(2000)]
    noise = np.array([gram_matrix(v.astype(np.float64)) for v, _ in drawn]) - gram_matrix(vector)
    on_classes = np.array([b for _, b in drawn]) - by_class
    sigma = 1.5 * math.sqrt(0.5**4 + 0.5**2)
    off = ~np.eye(D, dtype=bool)
    assert np.abs(noise[:, ~off].std(0) / sigma - 1).max() < 0.06
    assert np.abs(noise[:, off].std(0) / (sigma / math.sqrt(2)) - 1).max() < 0.06
    assert np.abs(on_classes.std(0) / sigma - 1).max() < 0.06
    assert max(np.abs(noise.mean(0)).max(), np.abs(on_classes.mean(0)).max()) < 6 * sigma / math.sqrt(
        len(drawn)
    )
    np.testing.assert_array_equal(noise, noise.transpose(0, 2, 1))


@pytest.mark.parametrize("n", [0, 40])
def test_noise_on_class_sums_is_that_of_the_formula(n: int) -> None:
    run, rng = config("fedncm", clip=0.5), np.random.default_rng(3)
    x, y = images(n)
    [plain] = clipped_sums(NOISY_CLASSES, x, y, C, 0.5)
    noise = np.array([released_sums(x, y, C, run, rng)[0] for _ in range(2000)]) - plain
    assert np.abs(noise.std(0) / (1.5 * 0.5) - 1).max() < 0.06
    assert np.abs(noise.mean(0)).max() < 6 * 0.75 / math.sqrt(len(noise))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_with_epsilon_the_noise_is_that_of_one_release(strategy: str) -> None:
    """Sigma of the analytic Gaussian mechanism at ε = 2, δ = 1e-5 is 1.99 (Balle and Wang 2018)."""
    run = config(strategy, noise_multiplier=0.0, epsilon=2.0)
    assert guarantee(run).epsilon(1) <= 2
    assert site_deviation(run) == pytest.approx(1.99 * sensitivity(one_shot_sums(run), 1.0), rel=5e-3)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_released_is_laid_out_as_both_sides_agree(strategy: str) -> None:
    run = config(strategy)
    made = released_sums(*images(4), C, run, np.random.default_rng(0))
    assert tuple((str(a.dtype), a.shape) for a in made) == layout(one_shot_sums(run), D, C)


def test_sums_are_those_of_clipped_rows() -> None:
    x, y = images(30)
    x[0] *= 1e6
    x[1, 2] = np.nan
    rows = np.where(np.isnan(x).any(1, keepdims=True), 0, x).astype(np.float64)
    rows *= np.minimum(1, 2 / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300))
    by_class = np.eye(C)[y].T @ rows
    np.testing.assert_allclose(clipped_sums(NOISY_CLASSES, x, y, C, 2.0)[0], by_class, rtol=1e-12)
    vector, right = clipped_sums(NOISY_GRAM, x, y, C, 2.0)
    np.testing.assert_allclose(gram_matrix(vector), rows.T @ rows, rtol=1e-12)
    np.testing.assert_allclose(right, by_class.T, rtol=1e-12)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_with_shared_noise_sums_are_bare_and_the_total_has_that_of_all_shares(strategy: str) -> None:
    shared = config(strategy, noise="shared", masks=True, min_sites=5, colluding_sites=1)
    x, y = images(30)
    for made, bare in zip(
        released_sums(x, y, C, shared, np.random.default_rng(0)),
        clipped_sums(one_shot_sums(shared), x, y, C, 1.0),
        strict=True,
    ):
        assert made.dtype == np.float64
        np.testing.assert_array_equal(made, bare)
    assert total_deviation(shared, 4) == pytest.approx(site_deviation(shared))
    assert total_deviation(shared, 9) == pytest.approx(1.5 * site_deviation(shared))
    assert total_deviation(config(strategy), 9) == pytest.approx(3 * site_deviation(config(strategy)))
