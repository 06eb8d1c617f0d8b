"""Canaries: each has a direction of its own in all that a mechanism may release of it."""

import numpy as np
import pytest

from fedtransfer.client.training.statistics import site_sums
from fedtransfer.simulations.audit.canaries import Canaries

INSIDE = np.array([True, False, True, True, False, False, True])


@pytest.fixture(params=[2, 3])
def canaries(request: pytest.FixtureRequest) -> Canaries:
    return Canaries(INSIDE, classes=request.param, length=5.0)


def apart(scores: np.ndarray, inside: float) -> None:
    """Canaries inside have this score, whatever others there are; those outside have 0."""
    assert scores.shape == INSIDE.shape
    np.testing.assert_allclose(scores, inside * INSIDE, rtol=1e-6, atol=1e-6 * inside)


def test_coins_are_fair_and_each_canarys_own() -> None:
    drawn = [Canaries.draw(1000, np.random.default_rng(seed)).inside for seed in range(20)]
    assert abs(np.mean(drawn) - 0.5) < 0.015
    assert abs(np.corrcoef(drawn) - np.eye(20)).max() < 0.15


def test_images_are_seen_in_sums_by_class(canaries: Canaries) -> None:
    sums, _ = site_sums("classes", *canaries.images(), canaries.classes)
    apart(canaries.in_sums(sums.T), 5.0)


def test_images_are_seen_in_both_parts_of_what_ridge_regression_takes(canaries: Canaries) -> None:
    x, y = canaries.images()
    gram, by_class = x.T @ x, x.T @ np.eye(canaries.classes)[y]
    apart(canaries.in_gram(gram, by_class, clip=5.0), 5.0**2 * 5.0**2 + 5.0 * 5.0)


def test_images_are_seen_in_the_head_that_steps_on_them_lead_to(canaries: Canaries) -> None:
    x, y = canaries.images()
    gradient = x.T @ (np.full(canaries.classes, 1 / canaries.classes) - np.eye(canaries.classes)[y])
    apart(canaries.in_head(canaries.head[0] - 0.1 * gradient), 0.1 * 5.0 * (1 - 1 / canaries.classes))


def test_sites_are_seen_in_the_sum_of_updates(canaries: Canaries) -> None:
    apart(canaries.in_sums(sum(kernel for kernel, _ in canaries.updates())), 5.0)
    assert {float(np.linalg.norm(kernel)) for kernel, _ in canaries.updates()} == {5.0}
