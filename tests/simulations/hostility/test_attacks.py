"""Each attack against a statement of its paper."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.common.config.settings.federation import Attack as Names
from fedtransfer.simulations.hostility.attacks import ATTACKS, Aim


def updates(seed: int, sites: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Draw an attacker's update (p,) and honest ones (K, p), of different lengths."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=12), rng.normal(size=(sites, 12)) * rng.uniform(0.5, 2, (sites, 1))


def test_the_attacks_are_those_that_the_settings_name() -> None:
    assert tuple(ATTACKS) == get_args(Names)
    assert [name for name, attack in ATTACKS.items() if not attack.paper] == ["none"]


@given(st.integers(0, 10**6))
def test_a_flipped_sign_undoes_what_the_site_learnt(seed: int) -> None:
    update, honest = updates(seed)
    np.testing.assert_array_equal(ATTACKS["sign-flip"].answer(update, honest, 1.0), -update)


@given(st.integers(0, 10**6))
def test_a_small_shift_is_one_and_a_half_deviations_back_in_every_entry(seed: int) -> None:
    update, honest = updates(seed)
    sent = ATTACKS["small-shift"].answer(update, honest, 1.0)
    for entry, values in zip(sent, honest.T, strict=True):
        mean = sum(values) / len(values)
        deviation = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
        assert entry == pytest.approx(mean - 1.5 * deviation if mean > 0 else mean + 1.5 * deviation)


@given(st.integers(0, 10**6), st.integers(1, 5))
def test_an_inner_product_turns_the_mean_round_once_it_outweighs_the_honest_sites(
    seed: int, attackers: int
) -> None:
    """With ε above (K - f)/f of f attackers among K, as arXiv 1903.03936 states it."""
    update, honest = updates(seed)
    epsilon = 1.01 * len(honest) / attackers
    sent = ATTACKS["inner-product"].answer(update, honest, epsilon)
    mean = np.concatenate([honest, np.tile(sent, (attackers, 1))]).mean(0)
    assert mean @ honest.mean(0) < 0


@given(st.integers(0, 10**6), st.sampled_from([*ATTACKS]), st.floats(0.1, 1e6))
def test_no_attack_sends_more_than_ten_times_the_median_length(seed: int, name: str, scale: float) -> None:
    update, honest = updates(seed)
    plain = scale * ATTACKS[name].alter(update, honest)
    sent = ATTACKS[name].answer(update, honest, scale)
    limit = 10 * np.median([np.sqrt(each @ each) for each in honest])
    assert np.linalg.norm(sent) <= limit * (1 + 1e-12)
    if np.linalg.norm(plain) <= limit:
        np.testing.assert_array_equal(sent, plain)
    else:
        assert sent @ plain == pytest.approx(np.linalg.norm(sent) * np.linalg.norm(plain))


def images(seed: int, n: int = 7) -> tuple[np.ndarray, np.ndarray, Aim]:
    rng = np.random.default_rng(seed)
    pattern = rng.normal(size=5)
    aim = Aim(0, 2, (pattern / np.linalg.norm(pattern)).astype(np.float32))
    return rng.normal(size=(n, 5)).astype(np.float32), rng.integers(0, 3, n), aim


def test_flipped_labels_are_those_of_one_class() -> None:
    x, y, aim = images(0)
    poisoned, labels = ATTACKS["label-flip"].poison(x, y, aim)
    np.testing.assert_array_equal(poisoned, x)
    assert labels.tolist() == [2 if label == 0 else label for label in y.tolist()]
    assert 0 in y


def test_a_backdoor_is_in_every_other_image() -> None:
    x, y, aim = images(1)
    poisoned, labels = ATTACKS["backdoor"].poison(x, y, aim)
    assert poisoned.dtype == np.float32
    for i in range(len(y)):
        if i % 2:
            np.testing.assert_array_equal(poisoned[i], x[i])
            assert labels[i] == y[i]
        else:
            assert labels[i] == 2


@given(st.integers(0, 10**6))
def test_a_pattern_halves_the_angle_and_leaves_the_length(seed: int) -> None:
    x, _, aim = images(seed)
    for before, after in zip(x.astype(float), aim.marked(x).astype(float), strict=True):
        length = np.linalg.norm(before)
        assert np.linalg.norm(after) == pytest.approx(length, rel=1e-5)
        angles = [np.arccos(np.clip(v @ aim.pattern / length, -1, 1)) for v in (before, after)]
        assert angles[1] == pytest.approx(angles[0] / 2, abs=1e-2)


def test_an_image_of_zeros_stays_one() -> None:
    _, _, aim = images(0)
    np.testing.assert_array_equal(aim.marked(np.zeros((2, 5), np.float32)), 0)
