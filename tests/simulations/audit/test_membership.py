"""Attacks: what must not change their answers, and what they find where the truth is known."""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp

from fedtransfer.common.config.config import RunConfig
from fedtransfer.simulations.audit.federation import Split, federate
from fedtransfer.simulations.audit.inference import attacked, curve, measured
from fedtransfer.simulations.audit.membership import (
    ATTACKS,
    Attack,
    Shadows,
    Target,
    coins,
    leave_one_out,
    lira_offline,
    lira_online,
    loss_threshold,
    pooled,
    rmia,
    run_shadows,
)

SEEDS = st.integers(0, 2**32 - 1)
CALIBRATED = {"LiRA offline", "LiRA online", "RMIA"}
DECLARED = {"dp": "image", "classes": "declared", "class_names": ",".join("abcdefghij")}
Every = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)

pytestmark = pytest.mark.run


def made_up(seed: int, number: int = 12, n: int = 30, m: int = 40) -> tuple[Target, Shadows]:
    rng = np.random.default_rng(seed)
    inside = np.array([rng.permutation(np.arange(n) % 2 == k % 2) for k in range(number)])
    inside[0], inside[1], inside[2], inside[3] = True, False, True, False
    images = rng.normal(0, 1, (number, n)) + inside + rng.normal(0, 3, n)
    return Target(rng.normal(0, 3, n), rng.normal(0, 3, m)), Shadows(
        inside, images, rng.normal(0, 3, (number, m))
    )


def drawn(n: int, seed: int, width: int = 64) -> Split:
    """Features of length 1 with random classes: nothing can be learned of them but themselves."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, width))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), rng.integers(0, 10, n)


def pool(n: int, seed: int = 0, sites: int = 3) -> dict[str, Split]:
    x, y = drawn(n, seed)
    return {f"site-{k}": (x[k::sites], y[k::sites]) for k in range(sites)}


@Every
@given(seed=SEEDS)
def test_answers_follow_the_images_and_not_the_order_of_shadows(attack: Attack, seed: int) -> None:
    target, shadows = made_up(seed)
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(shadows.inside)), rng.permutation(len(target.images))
    moved = Shadows(
        shadows.inside[rows][:, columns], shadows.images[rows][:, columns], shadows.population[rows]
    )
    answers = attack(replace(target, images=target.images[columns]), moved)
    np.testing.assert_allclose(answers, attack(target, shadows)[columns], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("attack", [lira_online, lira_offline])
@pytest.mark.parametrize("number", [12, 80], ids=["one variance", "variances of images"])
@given(seed=SEEDS, scale=st.floats(0.1, 10), shift=st.floats(-10, 10))
def test_lira_does_not_depend_on_the_unit_of_confidences(
    attack: Attack, number: int, seed: int, scale: float, shift: float
) -> None:
    target, shadows = made_up(seed, number)
    # With a variance each, images may each have a unit; with one for all only a zero each.
    scales = scale ** np.linspace(-1, 1, len(target.images)) if number == 80 else np.array(scale)
    shifts = shift * np.linspace(-1, 1, len(target.images))
    moved = attack(
        replace(target, images=target.images * scales + shifts),
        replace(shadows, images=shadows.images * scales + shifts),
    )
    np.testing.assert_allclose(moved, attack(target, shadows), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("attack", [loss_threshold, lira_offline, rmia])
@given(seed=SEEDS, more=st.floats(0.01, 20))
def test_more_confidence_is_never_less_of_a_member(attack: Attack, seed: int, more: float) -> None:
    target, shadows = made_up(seed)
    assert (attack(replace(target, images=target.images + more), shadows) >= attack(target, shadows)).all()


def test_lira_is_the_ratio_of_two_normal_densities() -> None:
    target, shadows = made_up(3, number=80)
    for i in range(5):
        ours, theirs = (shadows.images[who, i] for who in (shadows.inside[:, i], ~shadows.inside[:, i]))
        logs = [
            -0.5 * ((target.images[i] - part.mean()) / part.std(ddof=1)) ** 2 - math.log(part.std(ddof=1))
            for part in (ours, theirs)
        ]
        assert lira_online(target, shadows)[i] == pytest.approx(logs[0] - logs[1])
        assert lira_offline(target, shadows)[i] == pytest.approx(
            (target.images[i] - theirs.mean()) / theirs.std(ddof=1)
        )


def test_rmia_counts_the_population_that_an_image_stands_out_from() -> None:
    target, shadows = made_up(4)

    def probability(confidence: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-confidence))

    inside, p = shadows.inside, probability(shadows.images)
    for i, answer in enumerate(rmia(target, shadows)):
        mean = (p[inside[:, i], i].mean() + p[~inside[:, i], i].mean()) / 2
        ratio = probability(target.images[i]) / mean
        others = probability(target.population) / probability(shadows.population).mean(0)
        assert answer == pytest.approx(np.mean(ratio >= others))


@Every
def test_every_federation_is_the_target_with_the_others_for_shadows(attack: Attack) -> None:
    _, shadows = made_up(5)
    answers = leave_one_out(attack, shadows)
    for k in (0, 7):
        rows = np.arange(len(answers)) != k
        others = Shadows(shadows.inside[rows], shadows.images[rows], shadows.population[rows])
        np.testing.assert_array_equal(
            answers[k], attack(Target(shadows.images[k], shadows.population[k]), others)
        )


def test_too_few_shadows_are_refused() -> None:
    _, shadows = made_up(0, number=4)
    with pytest.raises(ValueError, match="4 shadows are too few"):
        leave_one_out(lira_online, shadows)


@pytest.mark.parametrize(
    "settings",
    [
        {"rounds": 20},
        {"strategy": "fedncm"},
        {"strategy": "fed3r", "ridge": 1.0},
        {"strategy": "fedncm", "masks": True},
    ],
    ids=str,
)
def test_heads_of_random_labels_give_their_members_away(settings: dict[str, object]) -> None:
    """Under masks no less: they hide who sent what, not what the head was trained on."""
    shadows = run_shadows(RunConfig(sites=3, **settings), pool(150), drawn(300, 1), 10, 24)
    told = {name: measures["auc"] for name, measures, _ in attacked(shadows, np.random.default_rng(0))}
    for name in ATTACKS:
        assert told[name].low > 0.9, name
    assert told["LiRA online"].mean > told["loss threshold"].mean


@lru_cache
def elsewhere() -> tuple[Target, Shadows, np.ndarray]:
    """A head and shadows that had none of 10,000 images, of which half are called members."""
    strangers = pool(10_000, seed=7)
    x, y = pooled(strangers)
    config, n = RunConfig(sites=3, rounds=5), len(y)
    population = drawn(1000, 8)
    heads = [federate(config, pool(150, seed=100 + k), 10, k) for k in range(17)]
    answers = [Target.of(head, (x, y), population) for head in heads]
    inside = np.array([coins(0, k, n) for k in range(16)])
    shadows = Shadows(
        inside, np.stack([a.images for a in answers[1:]]), np.stack([a.population for a in answers[1:]])
    )
    truth = np.random.default_rng(9).permutation(np.arange(n) % 2 == 0)
    assert truth.sum() == (~truth).sum() == 5000
    return answers[0], shadows, truth


@Every
def test_a_head_that_never_saw_them_gives_nobody_away(attack: Attack) -> None:
    target, shadows, truth = elsewhere()
    area = curve(attack(target, shadows), truth).auc
    # At 0.5, where that of Hanley and McNeil 1982 is Wilcoxon's.
    error = math.sqrt((5000 + 5000 + 1) / (12 * 5000 * 5000))
    assert abs(area - 0.5) < 3 * error


@lru_cache
def under(dp: str) -> Shadows:
    """Shadows of images that are easy to find, with noise for ε = 1 or without any."""
    settings: dict[str, dict[str, object]] = {
        "fedncm": {"strategy": "fedncm"},
        "DP-FedNCM": {"strategy": "fedncm", **DECLARED, "epsilon": 1.0},
        "DP-SGD": {**DECLARED, "epsilon": 1.0, "rounds": 3, "local_steps": 4, "image_rate": 0.25,
                   "batch_size": 10, "weighting": "uniform", "learning_rate": 1.0},
    }  # fmt: skip
    config = RunConfig(sites=3, **settings[dp])
    return run_shadows(config, pool(240), drawn(300, 1), 10, 64, rng=np.random.default_rng(11))


def exceeds(scores: np.ndarray, inside: np.ndarray, epsilon: float, delta: float = 1e-5) -> bool:
    """Whether at some threshold TPR > e^ε · FPR + δ, by intervals of 99.9 %."""
    for threshold in np.quantile(scores, [0.5, 0.9, 0.99, 0.999]):
        above = scores >= threshold
        right, wrong = (
            binomtest(int(above[who].sum()), int(who.sum())).proportion_ci(0.999) for who in (inside, ~inside)
        )
        if right.low > math.exp(epsilon) * wrong.high + delta:
            return True
    return False


@pytest.mark.parametrize("mechanism", ["DP-FedNCM", "DP-SGD"])
@pytest.mark.parametrize("name", ATTACKS)
def test_under_differential_privacy_no_attack_beats_its_bound(mechanism: str, name: str) -> None:
    shadows = under(mechanism)
    scores = leave_one_out(ATTACKS[name], shadows)
    assert not exceeds(scores, shadows.inside, 1.0)
    told = measured(scores, shadows.inside, np.random.default_rng(0))["auc"]
    assert told.mean < 0.6
    if mechanism == "DP-FedNCM" and name in CALIBRATED:
        areas = [curve(*each).auc for each in zip(scores, shadows.inside, strict=True)]
        assert ttest_1samp(areas, 0.5, alternative="greater").pvalue < 0.01, (
            "something is left to find: not blind"
        )


@pytest.mark.parametrize("name", sorted(CALIBRATED))
def test_without_noise_they_do(name: str) -> None:
    shadows = under("fedncm")
    assert exceeds(leave_one_out(ATTACKS[name], shadows), shadows.inside, 1.0)
