"""Measures of attacks: against scikit-learn, published numbers, scores of a known distribution."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from fedtransfer.simulations.audit import inference
from fedtransfer.simulations.audit.inference import POINTS, Curve, curve, log_spaced, measured


def gaussian(targets: int, images: int, apart: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of which those of members are normal around ``apart``, and others around 0."""
    rng = np.random.default_rng(seed)
    inside = rng.random((targets, images)) < 0.5
    return rng.standard_normal(inside.shape) + apart * inside, inside


def test_values_are_those_of_the_known_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_RESAMPLES", 20)  # of which no value hangs, and so many answers take long
    told = measured(*gaussian(40, 5000, 1.0, seed=0), np.random.default_rng(0))
    assert told["auc"].mean == pytest.approx(norm.cdf(1 / math.sqrt(2)), abs=0.004)
    assert told["tpr@1%"].mean == pytest.approx(norm.sf(norm.isf(0.01) - 1), rel=0.05)
    assert told["tpr@0.1%"].mean == pytest.approx(norm.sf(norm.isf(0.001) - 1), rel=0.15)
    for estimate in told.values():
        assert estimate.low < estimate.mean < estimate.high


@pytest.mark.parametrize("targets", [1, 25], ids=["independent answers", "bootstrap of targets"])
def test_intervals_hold_the_truth_about_as_often_as_they_say(targets: int) -> None:
    truth = {"auc": norm.cdf(0.8 / math.sqrt(2)), "tpr@1%": norm.sf(norm.isf(0.01) - 0.8)}
    runs = [
        measured(*gaussian(targets, 3000 // targets, 0.8, seed), np.random.default_rng(seed))
        for seed in range(25)
    ]
    for name, true in truth.items():
        held = np.mean([run[name].low <= true <= run[name].high for run in runs])
        assert held >= 0.85, name


@pytest.mark.parametrize("axis", [0, 1], ids=["about one image", "of one head"])
def test_answers_that_hang_together_have_wider_intervals(axis: int) -> None:
    """Answers that are all the same tell no more than one answer does."""
    alike = [np.repeat(each, 20, axis=axis) for each in gaussian(20, 100, 0.5, seed=1)]
    free = gaussian(*alike[0].shape, 0.5, seed=1)
    widths = []
    for scores, inside in (alike, free):
        estimate = measured(scores, inside, np.random.default_rng(0))["auc"]
        widths.append(estimate.high - estimate.low)
    assert widths[0] > 2 * widths[1]


def test_intervals_hold_what_an_attack_does_on_other_images_too() -> None:
    """Some images are found by every head, others by none: the interval is not of these alone."""
    told, rng = [], np.random.default_rng(0)
    for seed in range(25):
        inside = rng.random((30, 100)) < 0.5
        found = np.exp(rng.normal(-0.5, 1.2, 100))  # how much further out a member's score is, image by image
        told.append(
            measured(rng.standard_normal(inside.shape) + found * inside, inside, np.random.default_rng(seed))[
                "auc"
            ]
        )
    truth = np.mean([estimate.mean for estimate in told])
    assert np.mean([estimate.low <= truth <= estimate.high for estimate in told]) >= 0.85


def test_a_rate_of_no_hits_has_an_upper_end() -> None:
    inside = np.arange(2000) % 2 == 0
    told = measured(np.where(inside, 0.0, 1.0)[None], inside[None], np.random.default_rng(0))
    assert (told["auc"].mean, told["auc"].low, told["auc"].high) == (0.0, 0.0, 0.0)
    rate = told["tpr@1%"]
    assert (rate.mean, rate.low, rate.high) == (0.0, 0.0, pytest.approx(1 - 0.025 ** (1 / 1000)))


def test_a_rate_that_too_few_answers_make_up_is_not_said() -> None:
    for others, said in ((900, []), (1500, ["tpr@1%"]), (9000, ["tpr@1%"]), (12_000, ["tpr@1%", "tpr@0.1%"])):
        inside = np.zeros((1, others + 100), bool)
        inside[:, :100] = True
        told = measured(np.random.default_rng(0).random(inside.shape), inside, np.random.default_rng(0))
        assert [name for name in ("tpr@1%", "tpr@0.1%") if not math.isnan(told[name].mean)] == said
        assert all(math.isnan(told[name].low) == math.isnan(told[name].mean) for name in told)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=4, max_size=40))
def test_curves_count_ties_as_half(answers: list[tuple[int, bool]]) -> None:
    scores, inside = np.array([score for score, _ in answers]), np.array([member for _, member in answers])
    if inside.all() or not inside.any():
        return
    whole = curve(scores, inside)
    pairs = np.sign(scores[inside][:, None] - scores[~inside][None])
    assert whole.auc == pytest.approx((1 + pairs.mean()) / 2)
    assert whole.auc == pytest.approx(roc_auc_score(inside, scores))
    rates = [np.mean(np.less_equal.outer((*scores, 9), scores[who]), axis=1) for who in (~inside, inside)]
    for fpr in (0.0, 0.1, 0.5, 1.0):
        assert whole.at(fpr) == pytest.approx(rates[1][rates[0] <= fpr].max())


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_only_the_order_of_scores_matters(seed: int, ties: bool) -> None:
    scores, inside = gaussian(5, 300, 1.0, seed)
    scores = np.round(scores, 1) if ties else scores
    one, other = (measured(s, inside, np.random.default_rng(0)) for s in (scores, np.exp(scores) * 3))
    assert one["auc"] == pytest.approx(other["auc"])


def test_points_for_logarithmic_axes_are_few_and_on_the_curve() -> None:
    whole = curve(*gaussian(1, 50_000, 1.5, seed=0))
    points = log_spaced(whole)
    assert POINTS / 2 < len(points.fpr) <= POINTS
    assert points.fpr[-1] == points.tpr[-1] == 1
    assert points.fpr[0] == pytest.approx(1 / 25_000, rel=0.05)
    assert (np.diff(points.fpr) > 0).all()
    assert (np.diff(points.tpr) >= 0).all()
    assert all(point == whole.at(fpr) for fpr, point in zip(*points, strict=True))
    assert {0.01, 0.001} <= set(points.fpr.tolist())
    assert len(log_spaced(Curve(np.array([0.0, 1.0]), np.array([0.0, 1.0]))).fpr) == 1
