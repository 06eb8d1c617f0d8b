"""DP-FedNCM and DP-Fed3R: the plain closed form with next to no noise, and a whole run."""

import math
from pathlib import Path

import numpy as np
import pytest
from drawn_sites import Drawn, numbers, seen, three_sites, together
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestCentroid

from fedtransfer.client.training.statistics import released_sums
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.privacy.closed_form import gram_vector, total_deviation
from fedtransfer.common.wire.protocol import Gather, Sums, Trial
from fedtransfer.common.wire.sums import NOISY_CLASSES, NOISY_GRAM
from fedtransfer.server.strategies import fed3r, fedncm

PRIVATE = {"dp": "image", "noise_multiplier": 1.0, "classes": "declared", "class_names": "a,b,c"}
QUIET = PRIVATE | {"noise_multiplier": 1e-9}


@pytest.fixture(autouse=True)
def _let_in_what_protects_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedtransfer.common.config.privacy_rules.LEAST_NOISE", 0.0)


DATA = three_sites()


def images(n: int, d: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes; some images are longer than the bound, one far longer."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    x = rng.normal(1, 1, (3, d))[y] + rng.normal(0, 0.7, (n, d))
    x *= rng.uniform(0.1, 0.9, (n, 1)) / np.linalg.norm(x, axis=1, keepdims=True)
    x[0] *= 1e6
    return x.astype(np.float32), y


def clipped(x: np.ndarray, bound: float) -> np.ndarray:
    x = x.astype(np.float64)
    return x * np.minimum(1, bound / np.linalg.norm(x, axis=1, keepdims=True))


def released(config: RunConfig, x: np.ndarray, y: np.ndarray, sites: int) -> list[Sums]:
    rng = np.random.default_rng(1)
    return [
        Sums(0, "", "", 1, released_sums(x[rows], y[rows], 3, config, rng))
        for rows in np.array_split(np.arange(len(y)), sites)
    ]


@pytest.mark.parametrize("clip", [0.5, 1.0])
def test_without_noise_ridge_is_that_of_scikit_learn_on_clipped_features(clip: float) -> None:
    x, y = images(300)
    config = RunConfig(strategy="fed3r", ridge=0.7, clip=clip, **QUIET)
    ridge, (kernel, bias) = fed3r.solve_noisy(released(config, x, y, 4), config, total_deviation(config, 4))
    assert ridge == 0.7
    expected = Ridge(alpha=0.7, fit_intercept=False).fit(clipped(x, clip), np.eye(3)[y]).coef_.T
    # The head sees features of length 1, of which the sums have the first ``clip``.
    np.testing.assert_allclose(kernel, clip * expected, rtol=1e-4, atol=1e-5)
    assert not bias.any()


def test_without_noise_class_means_are_those_of_scikit_learn_on_clipped_features() -> None:
    x, y = images(300)
    config = RunConfig(strategy="fedncm", clip=0.5, **QUIET)
    ridge, (kernel, bias) = fedncm.solve_noisy(released(config, x, y, 4), config, total_deviation(config, 4))
    means = NearestCentroid().fit(clipped(x, 0.5), y).centroids_
    np.testing.assert_allclose(
        kernel.T, means / np.linalg.norm(means, axis=1, keepdims=True), rtol=1e-5, atol=1e-6
    )
    assert (ridge, bias.any()) == (0.0, False)


def test_what_noise_made_negative_is_taken_for_nothing() -> None:
    values = np.array([50.0, 4.0, -3.0, -20.0])
    vectors = np.linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))[0]
    right = np.random.default_rng(3).normal(size=(4, 3))
    sums = [Sums(0, "", "", 1, (gram_vector((vectors * values) @ vectors.T), right))]
    config = RunConfig(strategy="fed3r", **PRIVATE)
    ridge, (kernel, _) = fed3r.solve_noisy(sums, config, 5.0)
    repaired = (vectors * np.maximum(values, 0)) @ vectors.T
    np.testing.assert_allclose(kernel, np.linalg.solve(repaired + ridge * np.eye(4), right), rtol=1e-5)


def test_lambda_is_the_deviation_of_the_eigenvalues_of_the_noise() -> None:
    """Of sites without any image, whose sums are noise; the largest eigenvalue is twice that."""
    config, d, sites = RunConfig(strategy="fed3r", **PRIVATE), 120, 7
    nobody = np.zeros((0, d), np.float32), np.zeros(0, int)
    sums = released(config, *nobody, sites)
    deviation = total_deviation(config, sites)
    ridge, (kernel, _) = fed3r.solve_noisy(sums, config, deviation)
    vector = np.sum([site.arrays[0] for site in sums], axis=0, dtype=np.float64)
    noise = np.zeros((d, d))
    noise[np.triu_indices(d)] = vector / np.where(np.equal(*np.triu_indices(d)), 1, math.sqrt(2))
    values = np.linalg.eigvalsh(noise + np.triu(noise, 1).T)
    assert ridge == pytest.approx(values.std(), rel=0.05)
    assert 2 * ridge == pytest.approx(np.abs(values).max(), rel=0.1)
    assert np.isfinite(kernel).all()


@pytest.mark.parametrize(("strategy", "what"), [("fed3r", NOISY_GRAM), ("fedncm", NOISY_CLASSES)])
def test_a_run_asks_every_site_once_and_tries_nothing(tmp_path: Path, strategy: str, what: str) -> None:
    run = Drawn(DATA, tmp_path)
    outcome = run.run(strategy=strategy, project="random", dimensions=16, **PRIVATE)
    assert [request.what for request in run.requests(Gather)] == [what] * 3
    assert not run.requests(Trial)
    sums = [value for _, value in run.answered if isinstance(value, Sums)]
    assert {value.examples for value in sums} == {1}
    ridge = (
        total_deviation(run.config(strategy="fed3r", **PRIVATE), 3) * math.sqrt(8)
        if strategy == "fed3r"
        else 0.0
    )
    assert outcome.progress.one_shot == {"ridge": pytest.approx(ridge), "factor": 8.0}


@pytest.mark.parametrize("strategy", ["fed3r", "fedncm"])
def test_without_noise_a_run_ends_with_the_head_of_all_images_together(tmp_path: Path, strategy: str) -> None:
    run = Drawn(DATA, tmp_path)
    settings = {"strategy": strategy, **QUIET, **({"ridge": 2.0} if strategy == "fed3r" else {})}
    outcome = run.run(**settings)
    (x, labels), config = together(DATA, "train"), run.config(**settings)
    x, one_hot = seen(config, x).astype(np.float64), np.eye(3)[numbers(labels, "abc")]
    expected = (
        np.linalg.solve(x.T @ x + 2 * np.eye(x.shape[1]), x.T @ one_hot)
        if strategy == "fed3r"
        else x.T @ one_hot
    )
    if strategy == "fedncm":
        expected /= np.linalg.norm(expected, axis=0)
    np.testing.assert_allclose(outcome.best.head[0], 8 * expected, rtol=1e-4, atol=1e-4)


def test_a_site_whose_answer_is_refused_is_not_asked_for_another(tmp_path: Path) -> None:
    """The first was a release; the λ is that of the noise of those who are left."""

    def without_finite_numbers(site: str, request, value):
        if site == "bert" and isinstance(value, Sums):
            return Sums(
                value.round,
                value.fingerprint,
                value.classes,
                1,
                (np.full_like(value.arrays[0], np.nan), *value.arrays[1:]),
            )
        return value

    run = Drawn(DATA, tmp_path, without_finite_numbers)
    outcome = run.run(strategy="fed3r", round_retries=3, **PRIVATE)
    assert sorted(site for site, request in run.asked if isinstance(request, Gather)) == [
        "anna",
        "bert",
        "carl",
    ]
    assert outcome.progress.one_shot["ridge"] == pytest.approx(
        total_deviation(run.config(strategy="fed3r", **PRIVATE), 2) * math.sqrt(128)
    )
