import math
from dataclasses import replace

import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chisquare, kstest

from fedtransfer.client.training.private import clipped_gradient_sum, train_privately
from fedtransfer.client.training.trainer import Recipe
from fedtransfer.common.head.head import HeadSpec
from fedtransfer.common.head.keras_head import build_head
from fedtransfer.common.privacy.accounting import Release
from fedtransfer.common.privacy.gaussian import secret_generator
from fedtransfer.common.privacy.guarantee import Guarantee
from fedtransfer.common.tensorflow import keras, tf

RECIPE = Recipe("sgd", 0.5, 16, 1)


def promised(rate: float = 1.0, noise: float = 0.0, steps: int = 1, clip: float = 1.0) -> Guarantee:
    return Guarantee("image", Release(rate, noise), steps, 1, clip, 1e-5, math.inf)


def data(n: int, features: int = 12, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, features)).astype(np.float32), rng.integers(0, classes, n)


def random_head(
    features: int = 12, classes: int = 3, scale: float = 1.0, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return tuple(
        (scale * rng.normal(size=shape)).astype(np.float32) for shape in ((features, classes), (classes,))
    )


def size(arrays: tuple[np.ndarray, ...]) -> float:
    return math.sqrt(sum(np.square(array.astype(np.float64)).sum() for array in arrays))


def summed(
    head, x: np.ndarray, y: np.ndarray, guarantee: Guarantee, recipe: Recipe = RECIPE
) -> tuple[np.ndarray, ...]:
    return clipped_gradient_sum(head, x, y, recipe, guarantee, np.random.default_rng(0))


def keras_gradients(head, x: np.ndarray, y: np.ndarray) -> list[list[np.ndarray]]:
    """Each image's own gradient, by Keras and TensorFlow."""
    model = build_head(HeadSpec(*head[0].shape))
    model.set_weights(head)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    gradients = []
    for one, label in zip(x, y, strict=True):
        with tf.GradientTape() as tape:
            value = loss(np.eye(head[1].size, dtype=np.float32)[[label]], model(one[None]))
        gradients.append([np.array(g, np.float64) for g in tape.gradient(value, model.trainable_variables)])
    return gradients


@pytest.mark.parametrize(("proximal", "decay"), [(0.0, 0.0), (0.4, 0.05)])
def test_steps_are_those_of_every_images_own_gradient(proximal: float, decay: float) -> None:
    (x, y), head, clip, rate = data(12), random_head(), 2.0, 0.7
    recipe = replace(RECIPE, proximal=proximal, weight_decay=decay)
    made = train_privately(
        head, x, y, recipe, promised(1.0, 0.0, 3, clip), np.random.default_rng(0), rate=rate
    )
    now = [array.astype(np.float64) for array in head]
    shortened = 0
    for _ in range(3):
        gradients = keras_gradients([array.astype(np.float32) for array in now], x, y)
        shares = [min(1, clip / size(tuple(gradient))) for gradient in gradients]
        shortened += sum(share < 1 for share in shares)
        step = [
            sum(s * g[i] for s, g in zip(shares, gradients, strict=True)) / recipe.batch_size for i in (0, 1)
        ]
        step = [s + proximal * (w - old) for s, w, old in zip(step, now, head, strict=True)]
        step[0] += decay * now[0]
        now = [w - recipe.learning_rate * rate * s for w, s in zip(now, step, strict=True)]
    assert 0 < shortened < 3 * len(y), "some are clipped, and some are not"
    for array, expected in zip(made, now, strict=True):
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-5)


def test_the_sum_is_what_a_step_takes() -> None:
    (x, y), head, guarantee = data(40), random_head(), promised(rate=0.4)
    after = train_privately(head, x, y, RECIPE, guarantee, np.random.default_rng(4), rate=0.5)
    rng = np.random.default_rng(4)
    rng.bytes(16)  # the key of the noise is drawn before the batch
    total = clipped_gradient_sum(head, x, y, RECIPE, guarantee, rng)
    for old, new, part in zip(head, after, total, strict=True):
        np.testing.assert_allclose(new - old, -0.5 * 0.5 * part / 16, atol=1e-6)


IMAGES = {
    "plain": lambda x: x,
    "1e6 times": lambda x: x * np.float32(1e6),
    "1e30 times": lambda x: x * np.float32(1e30),
    "tiny": lambda x: x * np.float32(1e-38),
    "NaN": lambda x: np.where(np.arange(len(x)) == 3, np.float32(np.nan), x),
    "infinite": lambda x: np.where(np.arange(len(x)) == 3, np.float32(-np.inf), x),
}


@examples(50, 150)
@given(
    st.integers(0, 40),
    st.sampled_from(sorted(IMAGES)),
    st.sampled_from([0.0, 1.0, 1e3, 1e10, 1e20, 3e37]),
    st.floats(1e-3, 1e3),
    st.integers(0, 1000),
)
def test_no_image_changes_the_sum_by_more_than_the_bound(
    others: int, kind: str, scale: float, clip: float, seed: int
) -> None:
    x, y = data(others + 1, seed=seed)
    x[-1] = IMAGES[kind](x[-1])
    head = random_head(scale=scale, seed=seed)
    order = np.random.default_rng(seed).permutation(others + 1)
    with_it = summed(head, x[order], y[order], promised(clip=clip))
    without = summed(head, x[:-1], y[:-1], promised(clip=clip))
    assert all(np.isfinite(array).all() for array in (*with_it, *without))
    assert size(tuple(a.astype(np.float64) - b for a, b in zip(with_it, without, strict=True))) <= clip


def test_a_large_image_adds_just_the_bound() -> None:
    x, y = data(1)
    assert size(summed(random_head(scale=0), x * np.float32(1e6), y, promised(clip=0.25))) == pytest.approx(
        0.25, rel=1e-4
    )


@pytest.mark.parametrize("kind", ["NaN", "infinite", "1e30 times"])
def test_an_image_without_finite_features_or_norm_adds_nothing(kind: str) -> None:
    x, y = data(1)
    assert size(summed(random_head(), IMAGES[kind](x[0])[None], y, promised())) == 0


def test_residuals_too_small_to_be_squared_are_clipped_too() -> None:
    """A head that is all but sure leaves residuals of 1e-23, whose squares are 0 in float32.

    A feature of 1e19 makes them count.
    """
    classes = 1000
    head = np.zeros((1, classes), np.float32), np.eye(1, classes, dtype=np.float32)[0] * 52
    total = summed(head, np.array([[1.8e19]], np.float32), np.array([0]), promised(clip=1e-3))
    assert size(total) <= 1e-3


@pytest.mark.parametrize("others", [1, 3, 7, 15, 31])
def test_a_head_that_hangs_on_the_last_bit_gains_nothing(others: int) -> None:
    """Each image's two scores differ by rounding only; the head makes one class of that or another.

    If rounding hung on how many images are in the batch, one more would change what others add.
    """
    for seed in range(40):
        rng, half = np.random.default_rng(seed), 1024
        x = rng.normal(size=(others + 1, half)).astype(np.float32)
        x = np.concatenate([x, x[:, ::-1]], 1)
        kernel = (1e12 * rng.normal(size=2 * half)).astype(np.float32)
        head = np.stack([kernel, kernel[::-1]], 1), np.zeros(2, np.float32)
        y = rng.integers(0, 2, others + 1)
        with_it, without = (summed(head, x[:n], y[:n], promised()) for n in (others + 1, others))
        assert size(tuple(a.astype(np.float64) - b for a, b in zip(with_it, without, strict=True))) <= 1


@pytest.mark.parametrize("n", [0, 1, 500])
def test_an_empty_batch_is_noise_of_the_right_size(n: int) -> None:
    """Where no image is drawn, or there is none at all."""
    x, y = data(n, features=2000, classes=10)
    head = random_head(features=2000, classes=10)
    guarantee = promised(rate=1e-12, noise=3.0, steps=4, clip=0.2)
    made = train_privately(head, x, y, RECIPE, guarantee, np.random.default_rng(5), rate=0.5)
    noise = np.concatenate([(new - old).ravel() for new, old in zip(made, head, strict=True)])
    expected = 0.5 * RECIPE.learning_rate * 3.0 * 0.2 * math.sqrt(4) / RECIPE.batch_size
    assert noise.std() == pytest.approx(expected, rel=0.02)
    assert kstest(noise / expected, "norm").pvalue > 0.01


def test_noise_is_as_large_beside_images_as_without() -> None:
    x, y = data(64, features=500)
    head, quiet = random_head(features=500), promised(rate=0.5)
    drawn = []
    for seed in range(30):
        noisy, plain = (
            train_privately(head, x, y, RECIPE, g, np.random.default_rng(seed))
            for g in (replace(quiet, release=Release(0.5, 2.0)), quiet)
        )
        drawn.append(np.concatenate([(a - b).ravel() for a, b in zip(noisy, plain, strict=True)]))
    assert np.std(drawn) == pytest.approx(RECIPE.learning_rate * 2.0 / RECIPE.batch_size, rel=0.02)


def test_what_a_sum_is_divided_by_does_not_hang_on_the_batch() -> None:
    """Twice the images make twice the step."""
    (x, y), head = data(5), random_head()
    once, twice = (
        train_privately(head, np.tile(x, (k, 1)), np.tile(y, k), RECIPE, promised(), np.random.default_rng(0))
        for k in (1, 2)
    )
    for old, one, two in zip(head, once, twice, strict=True):
        np.testing.assert_allclose(two - old, 2 * (one - old), atol=1e-6)


def test_batches_are_poisson_samples() -> None:
    """Each image has its own draw: batch sizes are binomial, and so is how often two meet."""
    n, q = 20, 0.3
    x = np.eye(n, dtype=np.float32)  # each image has its own row of the kernel
    head, rng = (np.zeros((n, 2), np.float32), np.zeros(2, np.float32)), np.random.default_rng(6)
    draws = [clipped_gradient_sum(head, x, np.zeros(n, int), RECIPE, promised(q), rng) for _ in range(4000)]
    drawn = np.array([kernel[:, 0] != 0 for kernel, _ in draws])
    sizes = np.bincount(drawn.sum(1), minlength=n + 1)
    kept = binom.pmf(np.arange(n + 1), n, q) * 4000 > 5
    expected = binom.pmf(np.arange(n + 1), n, q)[kept]
    assert chisquare(sizes[kept], expected / expected.sum() * sizes[kept].sum()).pvalue > 0.01
    np.testing.assert_allclose(drawn.mean(0), q, atol=0.03)
    together = drawn.astype(float).T @ drawn / 4000
    np.testing.assert_allclose(together[~np.eye(n, dtype=bool)], q * q, atol=0.03)


def test_no_two_calls_are_alike() -> None:
    (x, y), head = data(30), random_head()
    first, second = (
        train_privately(head, x, y, RECIPE, promised(0.5, 1.0), secret_generator()) for _ in range(2)
    )
    assert not (first[0] == second[0]).any()
