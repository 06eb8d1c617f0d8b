"""Robust LDA: the discriminants of its formula, and what a minority of sites can do to them."""

import numpy as np
import pytest
from drawn_features import drawn
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtransfer.client.training.statistics import site_sums
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.wire.protocol import Sums
from fedtransfer.common.wire.sums import check_sums
from fedtransfer.server.strategies.fed3r import FED3R
from fedtransfer.server.strategies.robust_lda import LIMIT, ROBUST_LDA
from fedtransfer.server.strategies.strategy import OneShotHead

RIDGE, CLASSES = 0.5, 4
CONFIG = RunConfig(strategy="robust-lda", ridge=RIDGE)
LDA = RunConfig(strategy="fed3r", ridge=RIDGE, lda=True)
Split = tuple[np.ndarray, np.ndarray]


def site(seed: int, n: int = 60) -> Split:
    """Images of one kind, with shares of the classes that are the site's."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n, rng.dirichlet(np.ones(CLASSES)))
    world = np.random.default_rng(0)
    x, y = drawn(np.full(CLASSES, n), world, 8)
    rows = np.concatenate([np.flatnonzero(y == c)[:k] for c, k in enumerate(counts)])
    return x[rows], y[rows]


def sums(x: np.ndarray, y: np.ndarray) -> Sums:
    answer = Sums(0, "", "", len(y), site_sums("gram", x, y, CLASSES))
    check_sums(answer, "gram", x.shape[1], CLASSES, unit=True)  # what admission lets in
    return answer


def solve(splits: list[Split], config: RunConfig = CONFIG, head: OneShotHead = ROBUST_LDA) -> Split:
    [arrays] = head.solve([sums(*split) for split in splits], config).values()
    return arrays


def assert_same(one: Split, other: Split) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@given(st.integers(0, 10**6), st.integers(1, 5))
def test_of_equal_sites_it_is_the_discriminant_of_one_with_equal_classes(seed: int, copies: int) -> None:
    """W_c = Σ⁻¹ μ_c and b_c = -½ μ_cᵀ Σ⁻¹ μ_c, with unbiased Σ, in float64."""
    rng = np.random.default_rng(seed)
    x, y = drawn(np.array([9, 20, 14, 30]), rng, 8)
    z, n = x.astype(np.float64), len(y)
    means = np.stack([z[y == c].mean(0) for c in range(CLASSES)])
    covariance = (z - means[y]).T @ (z - means[y]) / (n - CLASSES) + RIDGE / (n * copies) * np.eye(8)
    w = np.linalg.solve(covariance, means.T)
    assert_same(solve([(x, y)] * copies), (w, -0.5 * (means * w.T).sum(1)))


@settings(max_examples=5)
@given(st.integers(0, 10**6))
def test_the_order_of_the_sites_does_not_matter(seed: int) -> None:
    splits = [site(seed + k) for k in range(6)]
    order = np.random.default_rng(seed).permutation(6)
    assert_same(solve(splits), solve([splits[k] for k in order]))


def test_sites_without_two_images_of_a_class_still_have_class_means() -> None:
    x, y = drawn(np.ones(CLASSES, int), np.random.default_rng(0), 8)
    kernel, _ = solve([(x, y)] * 3)
    n = 3 * len(y)
    np.testing.assert_allclose(kernel, n / RIDGE * x.T, rtol=1e-4)


def accuracy(head: Split, x: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean((x @ head[0] + head[1]).argmax(1) == y))


POISONS = {
    "opposite images": lambda x, y: (-x, y),
    "the next class": lambda x, y: (x, (y + 1) % CLASSES),
    "ten times as many": lambda x, y: (np.tile(x, (10, 1)), np.tile((y + 1) % CLASSES, 10)),
}


@pytest.mark.parametrize("poison", POISONS)
def test_two_of_nine_sites_that_lie_are_as_good_as_absent(poison: str) -> None:
    """Whatever images they claim to have: every sum of images of length 1 is let in."""
    x, y = drawn(np.full(CLASSES, 300), np.random.default_rng(1), 16)
    rows = np.random.default_rng(2).permutation(len(y)).reshape(10, -1)
    *sites, test = [(x[part], y[part]) for part in rows]
    hostile = [POISONS[poison](*split) for split in sites[:2]]
    bent, without = solve([*hostile, *sites[2:]]), solve(sites[2:])
    assert accuracy(bent, *test) == pytest.approx(accuracy(without, *test), abs=0.01)
    plain = solve([*hostile, *sites[2:]], LDA, FED3R)
    assert accuracy(plain, *test) < accuracy(bent, *test) - 0.02


@given(st.integers(0, 10**6), st.integers(0, 3), st.floats(0, 6))
def test_a_class_mean_moves_no_farther_than_honest_ones_are_apart(
    seed: int, hostile: int, power: float
) -> None:
    """Of seven sites up to three are anywhere: the bound of the median, and a limit's radius.

    A large λ makes the head of the class means alone, and features need not have length 1 here.
    """
    rng = np.random.default_rng(seed)
    splits = [drawn(np.full(CLASSES, 12), np.random.default_rng([seed, k]), 8) for k in range(7)]
    means = np.array([[x[y == c].mean(0) for c in range(CLASSES)] for x, y in splits[hostile:]])
    answers = [Sums(0, "", "", len(y), site_sums("gram", x, y, CLASSES)) for x, y in splits]
    for k in range(hostile):
        x, y = splits[k]
        moved = (x + 10**power * rng.normal(size=8)).astype(np.float32)
        answers[k] = Sums(0, "", "", len(y), site_sums("gram", moved, y, CLASSES))
    ridge = 1e12
    [(kernel, _)] = ROBUST_LDA.solve(answers, RunConfig(strategy="robust-lda", ridge=ridge)).values()
    for c, mean in enumerate(kernel.T * ridge / (7 * 12 * CLASSES)):
        centre = means[:, c].mean(0)
        radius = np.linalg.norm(means[:, c] - centre, axis=1).max()
        of_median = 2 * (7 - hostile) / (7 - 2 * hostile) * radius
        reach = LIMIT**0.5 * (of_median + radius + 0.3)  # deviation of a mean of 12 images: √(0.5 / 12)
        assert np.linalg.norm(mean - centre) <= of_median + reach


def test_sites_of_another_kind_are_not_taken_for_liars() -> None:
    """Two kinds of images, whose classes are a little apart, and sites of either kind."""
    rng = np.random.default_rng(3)
    x, y = drawn(np.full(CLASSES, 600), rng, 16)
    rows = rng.permutation(len(y)).reshape(8, -1)
    shift = 0.15 * rng.normal(size=(2, CLASSES, 16)) / 4
    splits = [((x[part] + shift[k % 2, y[part]]).astype(np.float32), y[part]) for k, part in enumerate(rows)]
    answers = [Sums(0, "", "", len(b), site_sums("gram", a, b, CLASSES)) for a, b in splits]
    [robust_head] = ROBUST_LDA.solve(answers, CONFIG).values()
    [plain_head] = FED3R.solve(answers, LDA).values()
    robust, plain = ([accuracy(head, *split) for split in splits] for head in (robust_head, plain_head))
    assert np.mean(robust) > np.mean(plain) - 0.01
    assert min(robust) > min(plain) - 0.03
