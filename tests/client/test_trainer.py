from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.keras_trainer import KerasTrainer
from client.linear_trainer import LinearTrainer
from client.trainer import Recipe, Trainer, batches, trainer
from common.backbone import load_backbone
from common.compute import keras
from common.config import BUNDLED, Optimizer
from common.head import HeadSpec, build_head, initial_head
from common.metrics import cross_entropy
from common.seeds import generator

SPEC = HeadSpec(12, 3)


def make(spec: HeadSpec, optimizer: str, rate: float, batch_size: int) -> Trainer:
    with trainer(spec, Recipe(optimizer, rate, batch_size, 1)) as t:
        return t


def data(n: int = 70, seed: int = 0, features: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = rng.normal(size=(n, features)) + np.eye(3, features)[y] * 2
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), y


def fit_by_keras(spec: HeadSpec, optimizer: str, rate: float, head, x, y, epochs: int) -> list[np.ndarray]:
    """What Keras' own ``fit`` makes of the same batches."""
    model = build_head(spec)
    model.set_weights(head)
    settings = {"learning_rate": rate, **({"momentum": 0.9} if optimizer == "momentum" else {})}
    instance = keras.optimizers.get({"class_name": optimizer.replace("momentum", "sgd"), "config": settings})
    model.compile(instance, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(5)
    for _ in range(epochs):
        order = batches(len(y), 32, rng)
        order = order[order >= 0]
        model.fit(x[order], y[order], batch_size=32, epochs=1, shuffle=False, verbose=0)
    return model.get_weights()


@pytest.mark.parametrize(
    ("optimizer", "rate", "spec"),
    [
        ("sgd", 1.0, SPEC),
        ("momentum", 0.1, SPEC),
        ("adam", 0.01, SPEC),
        ("adagrad", 0.1, SPEC),
        ("sgd", 0.5, HeadSpec(12, 3, hidden_units=6)),
        ("sgd", 0.5, HeadSpec(12, 3, l1=1e-3, l2=1e-2)),
    ],
)
def test_training_is_what_keras_fit_does_on_the_samebatches(optimizer: str, rate: float, spec: HeadSpec) -> None:
    x, y = data()
    head = initial_head(spec, 1)
    ours = make(spec, optimizer, rate, 32).train(head, x, y, np.random.default_rng(5), 3)
    for a, b in zip(ours, fit_by_keras(spec, optimizer, rate, head, x, y, 3), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_fedprox_adds_the_pull_towards_the_head_it_began_at(optimizer: str) -> None:
    x, y = data(40)
    head = tuple(np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in SPEC.shapes)
    moved = []
    for proximal in (0.0, 0.5, 5.0):
        with trainer(SPEC, Recipe(optimizer, 0.1, 8, 3, proximal=proximal)) as t:
            after = t.train(head, x, y, np.random.default_rng(1), 3)
            moved.append(sum(float(((a - b) ** 2).sum()) for a, b in zip(after, head, strict=True)))
    assert moved[0] > moved[1] > moved[2] > 0


@pytest.mark.parametrize("make_trainer", [LinearTrainer, lambda *a: KerasTrainer(SPEC, "sgd", *a)])
def test_fedprox_steps_are_those_of_its_paper(make_trainer) -> None:
    """w ← w - η (∇F(w) + μ (w - w_t)), arXiv 1812.06127, in float64."""
    x, y = data(24)
    head = tuple(np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in SPEC.shapes)
    got = make_trainer(0.5, 8, 0.3).train(head, x, y, np.random.default_rng(1), 2)
    w0, b0 = (array.astype(np.float64) for array in head)
    w, b, rng = w0.copy(), b0.copy(), np.random.default_rng(1)
    for _ in range(2):
        for row in batches(24, 8, rng):
            scores = x[row] @ w + b
            p = np.exp(scores - scores.max(1, keepdims=True))
            gradient = p / p.sum(1, keepdims=True) - np.eye(3)[y[row]]
            w, b = (
                w - 0.5 * (x[row].T @ gradient / 8 + 0.3 * (w - w0)),
                b - 0.5 * (gradient.mean(0) + 0.3 * (b - b0)),
            )
    np.testing.assert_allclose(got[0], w, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got[1], b, rtol=1e-4, atol=1e-5)


def test_the_default_is_trained_in_numpy_and_all_else_by_keras() -> None:
    assert isinstance(make(SPEC, "sgd", 1.0, 32), LinearTrainer)
    for spec, optimizer in (
        (SPEC, "adam"),
        (HeadSpec(12, 3, l2=0.1), "sgd"),
        (HeadSpec(12, 3, hidden_units=4), "sgd"),
        (HeadSpec(12, 3, dropout=0.1), "sgd"),
    ):
        assert isinstance(make(spec, optimizer, 1.0, 32), KerasTrainer)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 90), st.integers(1, 40), st.integers(1, 4), st.floats(0.01, 1), st.integers(0, 99))
def test_both_trainers_give_the_same_head(n: int, size: int, epochs: int, rate: float, seed: int) -> None:
    """On features of length one the loss has curvature at most 1, so up to rate 2 a step amplifies no rounding error.

    Beyond that float32 results of any two programs part: at rate 7 and one image a step by 2e-4 after 40 steps.
    """
    x, y = data(n, seed)
    head = tuple(np.random.default_rng(seed).normal(size=shape).astype(np.float32) for shape in SPEC.shapes)
    trainers = (LinearTrainer(rate, size), _keras_trainer(rate, size))
    for a, b in zip(*(t.train(head, x, y, np.random.default_rng(seed), epochs) for t in trainers), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(*(t.predict(head, x) for t in trainers), rtol=1e-5, atol=1e-6)


def _keras_trainer(rate: float, size: int) -> KerasTrainer:
    return KerasTrainer(SPEC, "sgd", rate, size)


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_every_optimizer_learns_and_starts_anew_each_time(optimizer: str) -> None:
    x, y = data()
    rate = 0.05 if optimizer not in ("adadelta",) else 5.0
    t = make(SPEC, optimizer, rate, 32)
    head = initial_head(SPEC, 0)
    first = t.train(head, x, y, generator(0, "a"), 5)
    t.train(first, x, y, generator(0, "b"), 2)
    again = t.train(head, x, y, generator(0, "a"), 5)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert cross_entropy(t.predict(first, x), y) < cross_entropy(t.predict(head, x), y)


def test_dropout_draws_depend_on_the_generator_only() -> None:
    x, y = data()
    spec = HeadSpec(12, 3, dropout=0.5)
    t = make(spec, "sgd", 1.0, 32)
    head = initial_head(spec, 0)
    one, two, other = (t.train(head, x, y, generator(0, name), 2)[0] for name in ("a", "a", "b"))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(t.predict(head, x), t.predict(head, x))


def test_early_stopping_keeps_the_best_epoch() -> None:
    x, y = data()
    validation = data(30, 9)
    t = make(SPEC, "sgd", 30.0, 8)
    head = initial_head(SPEC, 0)
    rng = np.random.default_rng(3)
    heads = [head]
    for _ in range(12):
        # Plain SGD has no state, so single epochs in a row are the same training.
        heads.append(t.train(heads[-1], x, y, rng, 1))
    losses = [cross_entropy(t.predict(h, validation[0]), validation[1]) for h in heads[1:]]
    patience = 2
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        elif epoch - best >= patience:
            break
    kept = t.train(head, x, y, np.random.default_rng(3), 12, patience, validation)
    np.testing.assert_array_equal(kept[0], heads[1 + best][0])
    assert best < 11, "the case is one where stopping early matters"


def test_one_model_is_built_however_often_it_is_used() -> None:
    recipe = Recipe("sgd", 0.5, 16, 1)
    with trainer(SPEC, recipe) as first:
        pass
    with trainer(SPEC, recipe) as second, trainer(SPEC, recipe) as at_the_same_time:
        assert first is second
        assert second is not at_the_same_time


def test_the_backbone_is_frozen_bit_for_bit() -> None:
    backbone = load_backbone(BUNDLED)
    before = [weight.copy() for weight in backbone.network.get_weights()]
    images = np.random.default_rng(0).uniform(0, 255, (30, 64, 64, 3)).astype(np.float32)
    features = backbone.extractor(30)(images).numpy()
    spec = HeadSpec(backbone.features, 3)
    with trainer(spec, Recipe("sgd", 1.0, 8, 3)) as t:
        t.train(initial_head(spec, 0), features, np.arange(30) % 3, generator(0, "x"), 3)
    for old, new in zip(before, backbone.network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
