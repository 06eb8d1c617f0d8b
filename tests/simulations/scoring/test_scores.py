"""Every score of a benchmark: sums that add up over sites, held to scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from fedtransfer.simulations.scoring.scores import CALIBRATION_BINS, Evaluation


def predictions(seed: int, n: int, classes: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw class numbers that all occur, and probabilities that know something of them."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % classes)
    scores = rng.normal(size=(n, classes))
    scores[np.arange(n), y] += 1
    powers = np.exp(sharpness * (scores - scores.max(1, keepdims=True)))
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32), y


few = settings(max_examples=25)
cases = given(
    st.integers(0, 2**32), st.integers(12, 100), st.integers(2, 6), st.sampled_from([0.01, 1.0, 10.0, 100.0])
)


@few
@cases
def test_scores_are_those_of_scikit_learn(seed: int, n: int, classes: int, sharpness: float) -> None:
    p, y = predictions(seed, n, classes, sharpness)
    evaluation, chosen = Evaluation.of(p, y), p.argmax(1)
    told = evaluation.measures
    assert told["accuracy"] == pytest.approx(metrics.accuracy_score(y, chosen))
    assert told["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y, chosen))
    precision, _, f1, _ = metrics.precision_recall_fscore_support(y, chosen, average="macro", zero_division=0)
    assert (told["macro_precision"], told["macro_f1"]) == pytest.approx((precision, f1))
    exact = np.mean([metrics.roc_auc_score(y == c, p[:, c].astype(np.float64)) for c in range(classes)])
    value, error = evaluation.auroc
    assert abs(value - exact) <= error + 1e-12, "off by no more than is said"
    assert (told["auroc"], told["auroc_off"]) == (value, error)


def test_an_auroc_is_nearly_exact_where_scores_spread() -> None:
    p, y = predictions(0, 5000, 10, 1.0)
    value, error = Evaluation.of(p, y).auroc
    exact = np.mean([metrics.roc_auc_score(y == c, p[:, c]) for c in range(10)])
    assert abs(value - exact) < 1e-5
    assert error < 1e-3


@few
@cases
def test_evaluations_of_sites_add_up_to_that_of_all_images(
    seed: int, n: int, classes: int, sharpness: float
) -> None:
    p, y = predictions(seed, n, classes, sharpness)
    whole = Evaluation.of(p, y)
    cuts = sorted(np.random.default_rng(seed).integers(0, n, 2))
    first, *rest = (Evaluation.of(*part) for part in zip(np.split(p, cuts), np.split(y, cuts), strict=True))
    parts = sum(rest, first)
    np.testing.assert_array_equal(parts.confusion, whole.confusion)
    np.testing.assert_array_equal(parts.ranks, whole.ranks)
    assert parts.measures == pytest.approx(whole.measures)


@few
@cases
def test_calibration_error_is_that_of_its_definition(
    seed: int, n: int, classes: int, sharpness: float
) -> None:
    p, y = predictions(seed, n, classes, sharpness)
    top, right, error = p.max(1).astype(np.float64), p.argmax(1) == y, 0.0
    for b in range(CALIBRATION_BINS):
        last = b == CALIBRATION_BINS - 1
        inside = (top * CALIBRATION_BINS >= b) & ((top * CALIBRATION_BINS < b + 1) | last)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - top[inside].mean())
    assert Evaluation.of(p, y).measures["ece"] == pytest.approx(error, abs=1e-9)


def test_certainty_chance_and_nothing() -> None:
    y = np.arange(4)
    sure = Evaluation.of(np.eye(4, dtype=np.float32), y).measures
    assert sure == pytest.approx({**dict.fromkeys(sure, 1.0), "auroc_off": 0.0, "nll": 0.0, "ece": 0.0})
    chance = Evaluation.of(np.full((4, 4), 0.25, np.float32), y).measures
    assert (chance["auroc"], chance["nll"]) == pytest.approx((0.5, math.log(4)))
    nothing = Evaluation.of(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    assert all(math.isnan(value) for value in nothing.measures.values())
    assert math.isnan(nothing.auroc[0])
    assert (nothing + Evaluation.of(np.eye(4, dtype=np.float32), y)).measures == sure


def test_classes_without_images_do_not_count() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]], np.float32)
    told = Evaluation.of(p, np.array([0, 1])).measures
    assert (told["balanced_accuracy"], told["auroc"]) == (1.0, 1.0)
