"""What a site's message tells: all where it should, much after many steps, chance under privacy."""

import numpy as np
import pytest
from drawn_features import drawn
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtransfer.client.training.linear import LinearTrainer
from fedtransfer.client.training.statistics import site_sums
from fedtransfer.client.training.trainer import Recipe
from fedtransfer.common.head.head import Arrays, HeadSpec
from fedtransfer.simulations.audit.leaks import (
    Recovered,
    from_sums,
    from_update,
    gram_directions,
    inside_span,
    largest_cosine,
    unit_rows,
)

RATE = 4.0


def zeros(d: int, classes: int) -> Arrays:
    return np.zeros((d, classes), np.float32), np.zeros(classes, np.float32)


def after(
    head: Arrays, x: np.ndarray, y: np.ndarray, batch: int, epochs: int, rate: float = RATE
) -> Recovered:
    """Train a site's head as the client does, and read off the change."""
    end = LinearTrainer(HeadSpec(*head[0].shape), Recipe("sgd", rate, batch, epochs)).train(
        head, x, y, np.random.default_rng(0), epochs
    )
    change = tuple(new.astype(np.float64) - old for new, old in zip(end, head, strict=True))
    return from_update(head, change, len(y), rate, epochs * -(-len(y) // batch))


@settings(max_examples=60)
@given(st.lists(st.integers(0, 40), min_size=2, max_size=20).filter(any), st.integers(0, 2**32 - 1))
def test_one_full_batch_step_from_zeros_tells_how_many_images_there_are_of_each_class(
    counts: list[int], seed: int
) -> None:
    true = np.array(counts)
    x, y = drawn(true, np.random.default_rng(seed))
    read = after(zeros(32, len(true)), x, y, batch=1000, epochs=1)
    np.testing.assert_array_equal(np.rint(read.counts), true)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 8), min_size=3, max_size=12).filter(any), st.integers(0, 2**32 - 1))
def test_where_a_class_is_absent_it_tells_the_sum_of_features_of_each_other(
    counts: list[int], seed: int
) -> None:
    true = np.array([0, *counts])
    x, y = drawn(true, np.random.default_rng(seed))
    read = after(zeros(32, len(true)), x, y, batch=1000, epochs=1)
    sums, _ = site_sums("classes", x, y, len(true))
    np.testing.assert_allclose(read.sums, sums, atol=1e-4 * len(y))
    for c in np.flatnonzero(true == 1):  # that is the image's feature
        np.testing.assert_allclose(read.directions[c], x[y == c][0], atol=1e-3)


def test_a_head_that_has_been_trained_tells_it_too() -> None:
    """One more step, from a head far from zeros: P is then not known beforehand, but found."""
    rng = np.random.default_rng(5)
    x, y = drawn(np.array([5, 0, 12, 1, 0, 6]), rng)
    others, labels = drawn(np.array([4, 4, 4, 4, 4, 4]), rng)
    trainer = LinearTrainer(HeadSpec(32, 6), Recipe("sgd", RATE, 24, 3))
    head = trainer.train(zeros(32, 6), others, labels, rng, 3)
    read = after(head, x, y, batch=1000, epochs=1)
    assert np.abs(read.counts - np.bincount(y, minlength=6)).sum() < 0.25 * len(y)
    assert read.directions[3] @ x[y == 3][0] > 0.9


@pytest.mark.parametrize(
    ("images", "epochs", "rate", "wrong", "alike"),
    [
        (64, 1, 4.0, 0.30, 0.97),
        (64, 5, 4.0, 0.30, 0.95),
        (320, 1, 4.0, 0.40, 0.93),
        (320, 5, 1.0, 0.25, 0.93),
    ],
)
def test_many_steps_blur_it(images: int, epochs: int, rate: float, wrong: float, alike: float) -> None:
    """Class shares and mean features, in the mean over ten sites with classes Dirichlet at 0.3."""
    errors, cosines, naive = [], [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        true = rng.multinomial(images, rng.dirichlet(np.full(10, 0.3)))
        x, y = drawn(true, rng, d=64)
        read = after(zeros(64, 10), x, y, batch=32, epochs=epochs, rate=rate)
        errors.append(np.abs(read.counts - true).sum() / images)
        cosines += [read.directions[c] @ unit_rows(x[y == c].mean(0)[None])[0] for c in np.flatnonzero(true)]
        naive.append(np.abs(images / 10 - true).sum() / images)
    assert np.mean(errors) < wrong < np.mean(naive) / 2
    assert np.mean(cosines) > alike


def test_sums_are_taken_as_they_are_sent() -> None:
    x, y = drawn(np.array([3, 0, 1, 4]), np.random.default_rng(0))
    sums, counts = site_sums("classes", x, y, 4)
    read = from_sums(sums, counts, len(y))
    np.testing.assert_array_equal(read.counts, [3, 0, 1, 4])
    np.testing.assert_allclose(read.directions[2], x[y == 2][0], atol=1e-6)
    guessed = from_sums(sums, None, len(y))
    assert guessed.counts.sum() == pytest.approx(8)
    assert guessed.counts[1] == 0
    assert largest_cosine(read.sums, x) == pytest.approx(1)


def test_a_gram_matrix_of_one_image_is_its_feature() -> None:
    [x] = drawn(np.array([1]), np.random.default_rng(0))[0].astype(np.float64)
    [direction] = gram_directions(np.outer(x, x), x)
    np.testing.assert_allclose(direction, x, atol=1e-7)


@given(st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_a_gram_matrix_of_few_images_tells_which_they_are(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = drawn(np.array([n]), rng)[0].astype(np.float64)
    directions = gram_directions(x.T @ x, x.sum(0))
    assert directions.shape == (n, 32)
    np.testing.assert_allclose(inside_span(directions, x), 1, atol=1e-6)
    assert inside_span(directions, unit_rows(rng.standard_normal((50, 32)))).mean() < 0.75
    assert (directions @ x.sum(0) >= 0).all()
