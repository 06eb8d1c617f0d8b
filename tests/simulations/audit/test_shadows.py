"""Shadow federations, and the number that each image is to a head."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedtransfer.common.config.config import RunConfig
from fedtransfer.simulations.audit.federation import Split, federate
from fedtransfer.simulations.audit.membership import coins, confidences, members, pooled, run_shadows

SCORES = arrays(np.float32, (7, 4), elements=st.floats(-30, 30, width=32))
LABELS = np.array([0, 1, 2, 3, 0, 1, 2])


def of_scores(scores: np.ndarray, labels: np.ndarray = LABELS) -> np.ndarray:
    """Confidences in images that are given by their class scores."""
    return confidences(
        (np.eye(scores.shape[1], dtype=np.float32), np.zeros(scores.shape[1], np.float32)), scores, labels
    )


def drawn(n: int, seed: int, width: int = 8) -> Split:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, width))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), rng.integers(0, 3, n)


POOL = {"b": drawn(11, 1), "a": drawn(7, 2), "c": drawn(20, 3)}


@given(SCORES)
def test_they_are_the_logit_of_the_probability_of_the_class(scores: np.ndarray) -> None:
    powers = np.exp(scores.astype(np.longdouble))
    others = np.where(np.eye(4)[LABELS] == 1, 0, powers).sum(1)
    logits = np.log(powers[np.arange(7), LABELS] / others)
    np.testing.assert_allclose(of_scores(scores), logits.astype(np.float64), rtol=1e-9, atol=1e-9)


@given(SCORES, st.integers(-20, 20), st.permutations(range(4)))
def test_neither_a_shift_of_all_scores_nor_the_order_of_classes_changes_them(
    scores: np.ndarray, shift: int, order: list[int]
) -> None:
    expected = of_scores(scores)
    np.testing.assert_allclose(of_scores(scores + np.float32(shift)), expected, atol=1e-4)
    np.testing.assert_allclose(of_scores(scores[:, order], np.argsort(order)[LABELS]), expected, atol=1e-9)


@given(SCORES, st.floats(0.125, 10))
def test_they_rise_by_as_much_as_the_score_of_the_class(scores: np.ndarray, more: float) -> None:
    raised = scores.astype(np.float64)
    raised[np.arange(7), LABELS] += more
    np.testing.assert_allclose(of_scores(raised), of_scores(scores) + more, atol=1e-9)


def test_they_are_exact_where_probabilities_round_to_0_or_1() -> None:
    scores = np.array([[900.0, -200.0], [900.0, -200.0]], np.float32)
    np.testing.assert_array_equal(of_scores(scores, np.array([0, 1])), [1100.0, -1100.0])
    assert np.isfinite(of_scores(np.array([[-1e30, 0.0]], np.float32), np.array([0]))).all(), (
        "a class never predicted"
    )


def test_coins_are_fair_keyed_and_each_shadows_own() -> None:
    tossed = np.array([coins(0, shadow, 2000) for shadow in range(30)])
    assert abs(tossed.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(tossed) - np.eye(30)).max() < 0.12
    assert abs(np.corrcoef(tossed[:, :40].T) - np.eye(40)).max() < 0.8, "nor do two images share theirs"
    np.testing.assert_array_equal(coins(0, 3, 2000), tossed[3])
    assert (coins(1, 3, 2000) != tossed[3]).any()


def test_members_are_those_of_the_pool_that_are_inside() -> None:
    inside = coins(0, 0, 38)
    x, y = pooled(POOL)
    mine = members(POOL, inside)
    assert list(mine) == ["a", "b", "c"]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in mine.values()]), x[inside])
    np.testing.assert_array_equal(np.concatenate([y for _, y in mine.values()]), y[inside])
    np.testing.assert_array_equal(x[7:18], POOL["b"][0])


@pytest.mark.parametrize(
    "settings", [{"rounds": 3, "batch_size": 4}, {"strategy": "fedncm"}], ids=["fedavg", "fedncm"]
)
def test_each_is_a_federation_of_its_members_with_draws_of_its_own(settings: dict[str, object]) -> None:
    config, told = RunConfig(sites=3, **settings), []
    shadows = run_shadows(config, POOL, drawn(5, 9), 3, 4, lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for shadow in range(4):
        np.testing.assert_array_equal(shadows.inside[shadow], coins(config.seed, shadow, 38))
        head = federate(config, members(POOL, shadows.inside[shadow]), 3, shadow)
        np.testing.assert_array_equal(shadows.images[shadow], confidences(head, *pooled(POOL)))
        np.testing.assert_array_equal(shadows.population[shadow], confidences(head, *drawn(5, 9)))
    left = shadows.without(2)
    np.testing.assert_array_equal(left.images, shadows.images[[0, 1, 3]])
    np.testing.assert_array_equal(left.inside, shadows.inside[[0, 1, 3]])
