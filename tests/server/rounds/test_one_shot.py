"""One-shot heads against the solution on all images together, and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.covariance import empirical_covariance
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestCentroid

from fedtransfer.client.training.statistics import site_sums
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.methods import METHODS
from fedtransfer.common.wire.protocol import Sums
from fedtransfer.server.strategies import ONE_SHOT_HEADS, fed3r, fedcof, fedncm
from fedtransfer.server.strategies.one_shot import GRID

LAMBDA = 0.5
RIDGE = RunConfig(strategy="fed3r", ridge=LAMBDA)
LDA = RunConfig(strategy="fed3r", ridge=LAMBDA, lda=True)
COF = RunConfig(strategy="fedcof", ridge=LAMBDA)
NCM = RunConfig(strategy="fedncm")
ROBUST = RunConfig(strategy="robust-lda", ridge=LAMBDA)
HEADS = [("fedncm", NCM), ("fed3r", RIDGE), ("fed3r", LDA), ("fedcof", COF), ("robust-lda", ROBUST)]

Data = tuple[np.ndarray, np.ndarray]


def images(seed: int, n: int, d: int = 6, classes: int = 4) -> Data:
    """Features of length 1 about class means, and class numbers; every class has an image."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % classes)
    x = rng.normal(1, 1, (classes, d))[y] + rng.normal(0, 0.5, (n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), y


def sums_at(name: str, data: Data, sites: list[np.ndarray], classes: int = 4) -> list[Sums]:
    """The sums of sites that have the given rows each."""
    x, y = data
    return [
        Sums(1, "", "", len(rows), site_sums(METHODS[name].sums, x[rows], y[rows], classes)) for rows in sites
    ]


def split(seed: int, n: int, number: int) -> list[np.ndarray]:
    """Rows spread over sites very unevenly: the first has one image, others may have none."""
    rng = np.random.default_rng(seed)
    [alone, *rest] = rng.permutation(n)
    place = rng.choice(number, len(rest), p=rng.dirichlet(np.full(number, 0.3)))
    sites = [np.array([alone]), *(np.array(rest, int)[place == k] for k in range(number))]
    return [sites[k] for k in rng.permutation(len(sites))]


def solve(name: str, config: RunConfig, data: Data, sites: list[np.ndarray], classes: int = 4) -> np.ndarray:
    """Kernel and, in the last row, bias of the only candidate, (d + 1, C)."""
    [(ridge, (kernel, bias))] = (
        ONE_SHOT_HEADS[name].solve(sums_at(name, data, sites, classes), config).items()
    )
    assert ridge == config.ridge
    assert kernel.dtype == bias.dtype == np.float32
    return np.vstack([kernel, bias])


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)


def pooled_ncm(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    means = np.stack([x[y == c].mean(0) for c in range(4)])
    return np.vstack([(means / np.linalg.norm(means, axis=1, keepdims=True)).T, np.zeros(4)])


def pooled_ridge(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    z = np.column_stack([x, np.ones(len(x))])
    return np.linalg.solve(z.T @ z + LAMBDA * np.eye(z.shape[1]), z.T @ np.eye(4)[y])


def pooled_lda(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    n, means = len(x), np.stack([x[y == c].mean(0) for c in range(4)])
    covariance = ((x - means[y]).T @ (x - means[y]) + LAMBDA * np.eye(x.shape[1])) / n
    w = np.linalg.solve(covariance, means.T)
    return np.vstack([w, [-0.5 * means[c] @ w[:, c] + np.log((y == c).mean()) for c in range(4)]])


@pytest.mark.parametrize(
    ("name", "config", "pooled"),
    [("fedncm", NCM, pooled_ncm), ("fed3r", RIDGE, pooled_ridge), ("fed3r", LDA, pooled_lda)],
)
@given(st.integers(0, 10**6), st.integers(8, 120), st.integers(1, 12))
def test_any_split_gives_the_pooled_head(name, config, pooled, seed: int, n: int, sites: int) -> None:
    x, y = images(seed, n)
    found = solve(name, config, (x, y), split(seed, n, sites))
    assert_close(found, pooled(x.astype(np.float64), y), 1e-6)


def test_ridge_is_that_of_scikit_learn() -> None:
    x, y = images(1, 200)
    z = np.column_stack([x, np.ones(len(x))]).astype(np.float64)
    ridge = Ridge(alpha=LAMBDA, fit_intercept=False).fit(z, np.eye(4)[y])
    assert_close(solve("fed3r", RIDGE, (x, y), split(1, 200, 5)), ridge.coef_.T, 1e-5)


def test_class_means_are_those_of_scikit_learn() -> None:
    x, y = images(2, 200)
    centroids = NearestCentroid().fit(x.astype(np.float64), y).centroids_
    sums = sums_at("fedncm", (x, y), split(2, 200, 5))
    np.testing.assert_allclose(fedncm.class_means(sums), centroids, rtol=1e-5, atol=1e-7)


class Shrunk(BaseEstimator):
    """The covariance of maximum likelihood, with so much added on its diagonal."""

    def __init__(self, added: float) -> None:
        self.added = added

    def fit(self, x: np.ndarray) -> "Shrunk":
        self.covariance_ = empirical_covariance(x) + self.added * np.eye(x.shape[1])
        return self


@pytest.mark.parametrize("ridge", [LAMBDA, 1e-10])
def test_lda_is_that_of_scikit_learn(ridge: float) -> None:
    """At a λ near 0, and many more images than features, without any shrinkage."""
    n = 400
    x, y = images(3, n)
    estimator = Shrunk(ridge / n) if ridge == LAMBDA else None
    lda = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=estimator).fit(
        x.astype(np.float64), y
    )
    config = RunConfig(strategy="fed3r", ridge=ridge, lda=True)
    found = solve("fed3r", config, (x, y), split(3, n, 5))
    assert_close(found[:-1], lda.coef_.T, 1e-5)
    assert_close(found[-1], lda.intercept_, 1e-5)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(8, 120), st.integers(1, 12))
def test_fedcof_is_the_formula_of_its_paper(seed: int, n: int, number: int) -> None:
    (x, y), sites = images(seed, n), split(seed, n, number)
    gram, right = LAMBDA * np.eye(6), np.zeros((6, 4))
    for c in range(4):
        mean, images_of_class = x[y == c].mean(0, dtype=np.float64), (y == c).sum()
        right[:, c] = images_of_class * mean
        own = [x[rows][y[rows] == c].astype(np.float64) for rows in sites if (y[rows] == c).any()]
        if len(own) > 1:
            covariance = sum(len(o) * np.outer(o.mean(0) - mean, o.mean(0) - mean) for o in own) / (
                len(own) - 1
            )
            gram += (images_of_class - 1) * covariance
    w = np.linalg.inv(gram) @ right
    expected = np.vstack([w / np.linalg.norm(w, axis=0), np.zeros(4)])
    assert_close(solve("fedcof", COF, (x, y), sites), expected, 1e-5)


def test_many_like_sites_tell_the_scatter_within_classes() -> None:
    rng = np.random.default_rng(4)
    n, shape = 20_000, np.array([[1.0, 0.6, 0.0], [0.0, 0.5, 0.2], [0.0, 0.0, 2.0]])
    y = rng.integers(0, 2, n)
    x = (rng.normal(size=(n, 3)) @ shape + 3 * y[:, None]).astype(np.float32)
    within = sum((y == c).sum() * empirical_covariance(x[y == c].astype(np.float64)) for c in range(2))

    def error(sites: int) -> float:
        sums = sums_at("fedcof", (x, y), np.array_split(np.arange(n), sites), 2)
        return float(np.linalg.norm(fedcof.within_scatter(sums) - within) / np.linalg.norm(within))

    assert error(2000) < 0.05 < error(5)


def test_classes_that_one_site_alone_has_tell_nothing_of_covariance() -> None:
    """So nothing but λ is left, and the head is that of FedNCM."""
    x, y = images(5, 80)
    by_class = [np.flatnonzero(y == c) for c in range(4)]
    assert_close(solve("fedcof", COF, (x, y), by_class), solve("fedncm", NCM, (x, y), by_class), 1e-6)


@pytest.mark.parametrize(("name", "config"), HEADS)
@given(st.integers(0, 10**6))
def test_a_class_without_images_changes_nothing_and_is_never_predicted(name, config, seed: int) -> None:
    """Also far away from all images, where every other class may score below 0."""
    x, y = images(seed, 60)
    sites = split(seed, 60, 4)
    found = solve(name, config, (x, y), sites, classes=6)
    np.testing.assert_allclose(found[:, :4], solve(name, config, (x, y), sites), rtol=1e-5, atol=1e-6)
    assert np.isfinite(found).all()
    anywhere = np.random.default_rng(seed).normal(0, 1000, (200, 6)).astype(np.float32)
    assert (anywhere @ found[:-1] + found[-1]).argmax(1).max() < 4


@pytest.mark.parametrize("name", ["fed3r", "fedcof"])
def test_without_a_lambda_there_is_a_head_for_each_of_the_grid(name: str) -> None:
    sums = sums_at(name, images(6, 60), split(6, 60, 4))
    candidates = ONE_SHOT_HEADS[name].solve(sums, RunConfig(strategy="fed3r"))
    assert tuple(candidates) == GRID == tuple(10.0**k for k in range(-3, 5))
    for ridge in GRID:
        one = ONE_SHOT_HEADS[name].solve(sums, RunConfig(strategy="fed3r", ridge=ridge))[ridge]
        for array, expected in zip(candidates[ridge], one, strict=True):
            np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("lda", [False, True])
def test_a_lambda_too_small_for_float64_is_refused_by_name(lda: bool) -> None:
    """Fewer images than features, and these so large that any λ vanishes beside their squares."""
    x, y = images(7, 4, d=30)
    sums = sums_at("fed3r", (x * np.float32(1e12), y), [np.arange(4)])
    with pytest.raises(UserError, match=r"lambda 0\.001 .*larger --ridge"):
        fed3r.solve(sums, RunConfig(strategy="fed3r", ridge=1e-3, lda=lda))
    with pytest.raises(UserError, match=r"lambda 10000 .*larger --ridge"):
        fed3r.solve(sums, RunConfig(strategy="fed3r", lda=lda))


def test_candidates_that_cannot_be_solved_for_are_left_out() -> None:
    x, y = images(8, 4, d=30)
    sums = sums_at("fed3r", (x * np.float32(1e7), y), [np.arange(4)])
    left = tuple(fed3r.solve(sums, RunConfig(strategy="fed3r")))
    assert left
    assert left == GRID[-len(left) :] != GRID
