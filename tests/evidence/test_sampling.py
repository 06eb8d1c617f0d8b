"""Batches and cohorts are Poisson samples, and the test that says so catches what is not."""

import math

import numpy as np
import pytest
from evidence.sampling import (
    batches_of_training,
    binomial_p_value,
    cohorts_of_rounds,
    poisson_p_value,
    used_in,
)
from scipy.stats import kstest

from fedtransfer.client.training import private as private_trainer
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.privacy.accounting import Release
from fedtransfer.common.privacy.gaussian import secret_generator
from fedtransfer.common.privacy.guarantee import Guarantee
from fedtransfer.server.sites.cohort import draw_cohort, draw_secretly

SEEDS = 20
FALSE_ALARMS = 1e-3  # of a right sampler, in all seeds of one test together
IMAGES, STEPS, RATE = 300, 600, 0.1


def promised(rate: float = RATE, steps: int = STEPS) -> Guarantee:
    return Guarantee("image", Release(rate, 1.0), steps, 1, 1.0, 1e-5, math.inf)


def is_poisson(p_values: list[float]) -> bool:
    return min(p_values) > FALSE_ALARMS / len(p_values)


def shuffled(n, rate, steps, rng, size=lambda mean, rng: mean):
    """Passes over all images in new orders, cut into batches."""
    order: list[int] = []
    for _ in range(steps):
        wanted = size(round(n * rate), rng)
        while len(order) < wanted:
            order += [int(image) for image in rng.permutation(n)]
        batch, order = order[:wanted], order[wanted:]
        yield np.unique(np.array(batch, np.intp))


def shuffled_in_uneven_batches(n, rate, steps, rng):
    """As many images in a batch as in a Poisson sample, but of passes over all."""
    return shuffled(n, rate, steps, rng, lambda mean, rng: rng.binomial(n, rate))


def of_one_size(n, rate, steps, rng):
    """Each batch is drawn anew, without replacement."""
    return (rng.choice(n, round(n * rate), replace=False) for _ in range(steps))


def at_half_the_rate(n, rate, steps, rng):
    return (np.flatnonzero(rng.random(n) < rate / 2) for _ in range(steps))


def kept_for_two_steps(n, rate, steps, rng):
    """Sizes and uses are of the right mean, but an image that comes once comes twice."""
    for _ in range(steps // 2):
        yield from [np.flatnonzero(rng.random(n) < rate)] * 2


def test_batches_of_our_dp_sgd_are_poisson_samples() -> None:
    values = [batches_of_training(IMAGES, promised(), np.random.default_rng(seed)) for seed in range(SEEDS)]
    assert values[0].shape == (STEPS, IMAGES)
    assert is_poisson([poisson_p_value(used, RATE) for used in values])


def test_those_of_the_secret_generator_are_too() -> None:
    assert poisson_p_value(batches_of_training(IMAGES, promised(), secret_generator()), RATE) > 1e-6


@pytest.mark.parametrize(
    "sampler", [shuffled, shuffled_in_uneven_batches, of_one_size, at_half_the_rate, kept_for_two_steps]
)
def test_what_is_sold_as_poisson_is_caught(sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_trainer, "batches", sampler)
    for seed in range(5):
        assert not is_poisson(
            [poisson_p_value(batches_of_training(IMAGES, promised(), np.random.default_rng(seed)), RATE)]
        )


def test_uses_of_an_image_alone_tell_of_shuffling() -> None:
    """Where batches are as uneven as they should be."""
    rows = list(shuffled_in_uneven_batches(IMAGES, RATE, STEPS, np.random.default_rng(0)))
    used = used_in(rows, IMAGES)
    assert binomial_p_value(used.sum(1), IMAGES, RATE) > 1e-3
    assert binomial_p_value(used.sum(0), STEPS, RATE) < 1e-12
    assert used.sum(0).var() < 0.1 * STEPS * RATE * (1 - RATE)


def test_p_values_of_poisson_samples_are_not_too_small() -> None:
    """A test at 5 % has false alarms in 5 % or less; all three are uniform, but for their cells."""
    rng = np.random.default_rng(1)
    used = [rng.random((200, 100)) < 0.2 for _ in range(400)]
    assert np.mean([poisson_p_value(one, 0.2) < 0.05 for one in used]) < 0.085
    assert kstest([binomial_p_value(one.sum(0), 200, 0.2) for one in used], "uniform").pvalue > 1e-3


def test_few_batches_are_not_judged() -> None:
    with pytest.raises(ValueError, match="too few for a test; observe more"):
        poisson_p_value(np.zeros((4, 5), bool), 0.2)


def test_cohorts_by_poisson_sampling_are_what_they_are_called() -> None:
    values = []
    for seed in range(SEEDS):
        config = RunConfig(seed=seed, sampling="poisson", fraction=0.2, sites=100)
        used = cohorts_of_rounds(lambda names, round, c=config: draw_cohort(names, 20, c, round), 100, 300)
        values.append(poisson_p_value(used, 0.2))
    assert is_poisson(values)


def test_secret_cohorts_are_too() -> None:
    values = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        used = cohorts_of_rounds(lambda names, round, rng=rng: draw_secretly(names, 0.2, rng), 100, 300)
        values.append(poisson_p_value(used, 0.2))
    assert is_poisson(values)


def test_cohorts_of_a_fixed_size_sold_as_poisson_are_caught() -> None:
    config = RunConfig(fraction=0.2, sites=100)
    used = cohorts_of_rounds(lambda names, round: draw_cohort(names, 20, config, round), 100, 300)
    assert poisson_p_value(used, 0.2) < 1e-12
