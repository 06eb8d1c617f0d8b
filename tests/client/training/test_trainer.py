from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from small_network import shared_backbone

from fedtransfer.client.training import linear, trainers
from fedtransfer.client.training.keras import KerasTrainer
from fedtransfer.client.training.linear import LinearTrainer, is_linear
from fedtransfer.client.training.trainer import Recipe, Trainer, batches, pairs
from fedtransfer.client.training.trainers import trainer
from fedtransfer.common.backbone.backbone import load_backbone
from fedtransfer.common.config.config import BUNDLED, Optimizer, RunConfig
from fedtransfer.common.head.head import HeadSpec, head_spec, initial_head
from fedtransfer.common.head.keras_head import build_head
from fedtransfer.common.head.metrics import cross_entropy
from fedtransfer.common.seeds import generator
from fedtransfer.common.tensorflow import keras

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


@pytest.mark.run
@pytest.mark.parametrize(
    ("optimizer", "rate", "spec"),
    [
        ("sgd", 1.0, SPEC),
        ("adam", 0.01, SPEC),
        pytest.param("momentum", 0.1, SPEC, marks=pytest.mark.full),
        pytest.param("adagrad", 0.1, SPEC, marks=pytest.mark.full),
        ("sgd", 0.5, HeadSpec(12, 3, hidden_units=6)),
        ("sgd", 0.5, HeadSpec(12, 3, l2=1e-2)),
    ],
)
def test_training_is_what_keras_fit_does_on_the_samebatches(
    optimizer: str, rate: float, spec: HeadSpec
) -> None:
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
    for proximal in (0.0, 0.5):
        with trainer(SPEC, Recipe(optimizer, 0.1, 8, 3, proximal=proximal)) as t:
            after = t.train(head, x, y, np.random.default_rng(1), 3)
            moved.append(sum(float(((a - b) ** 2).sum()) for a, b in zip(after, head, strict=True)))
    assert moved[0] > moved[1] > 0


def mean_loss(w, b, x, y, class_weights) -> float:
    """Cross-entropy, each image's times the weight of its class, over the number of images."""
    scores = x @ w + b
    log_p = scores - scores.max(1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
    return float(-(log_p[np.arange(len(y)), y] * class_weights[y]).sum() / len(y))


def slope(w, b, *batch) -> tuple[np.ndarray, np.ndarray]:
    """Its gradient by central differences: no formula that a trainer could share."""
    flat = np.concatenate([w.ravel(), b])

    def at(point: np.ndarray) -> float:
        return mean_loss(point[: w.size].reshape(w.shape), point[w.size :], *batch)

    steps = np.eye(flat.size) * 1e-5
    gradient = np.array([(at(flat + step) - at(flat - step)) / 2e-5 for step in steps])
    return gradient[: w.size].reshape(w.shape), gradient[w.size :]


def by_definition(head, x, y, rng, epochs, recipe: Recipe, rate=1.0, correction=None, class_weights=None):
    """Every option of a plain SGD step, in float64, as its paper or its help text states it."""
    w0, b0 = w, b = tuple(array.astype(np.float64) for array in head)
    x, eta = x.astype(np.float64), recipe.learning_rate * rate
    class_weights = np.ones(w.shape[1]) if class_weights is None else class_weights
    for _ in range(epochs):
        rows = [row[row >= 0] for row in batches(len(y), recipe.batch_size, rng)]
        if recipe.inner_rate:
            rows = [(rows[i], rows[min(i + 1, len(rows) - 1)]) for i in range(0, len(rows), 2)]
        for row in rows:
            at, last = (w, b), row
            if recipe.inner_rate:
                first, last = row
                inner = slope(w, b, x[first], y[first], class_weights)
                at = tuple(v - recipe.inner_rate * g for v, g in zip((w, b), inner, strict=True))
            dw, db = slope(*at, x[last], y[last], class_weights)
            dw, db = dw + recipe.proximal * (w - w0), db + recipe.proximal * (b - b0)
            if correction is not None:
                dw, db = dw + correction[0], db + correction[1]
            w, b = w - eta * dw - eta * recipe.weight_decay * w, b - eta * db
    return w, b


PLAIN = Recipe("sgd", 0.5, 8, 1)
LEAN = tuple(np.random.default_rng(7).normal(size=shape).astype(np.float32) / 4 for shape in SPEC.shapes)
WEIGHTS = np.array([0.5, 2.0, 1.5], np.float32)


BOTH = [LinearTrainer, KerasTrainer]
ALONE = [
    (replace(PLAIN, proximal=0.3), {}),
    (replace(PLAIN, weight_decay=0.1), {"rate": 0.5}),
    (PLAIN, {"class_weights": WEIGHTS}),
    (replace(PLAIN, corrected=True), {"correction": LEAN}),
    (replace(PLAIN, inner_rate=0.7), {"rate": 0.25}),
]
TOGETHER = [
    (replace(PLAIN, inner_rate=0.7, weight_decay=0.1), {"class_weights": WEIGHTS}),
    (replace(PLAIN, proximal=0.3, weight_decay=0.2, corrected=True), {"rate": 0.5, "correction": LEAN}),
]


@pytest.mark.parametrize(
    ("build", "recipe", "how"),
    [
        *((LinearTrainer, *case) for case in (*ALONE, *TOGETHER)),
        *((KerasTrainer, *case) for case in TOGETHER),
        *(pytest.param(KerasTrainer, *case, marks=pytest.mark.full) for case in ALONE),
    ],
)
def test_each_option_is_what_its_definition_says(build, recipe: Recipe, how: dict) -> None:
    """With five batches: an odd number, and the last is short."""
    x, y = data(36)
    head = tuple(np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in SPEC.shapes)
    got = build(SPEC, recipe).train(head, x, y, np.random.default_rng(1), 2, **how)
    wanted = by_definition(head, x, y, np.random.default_rng(1), 2, recipe, **how)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    changed = {key: 0.0 for key in ("proximal", "weight_decay", "inner_rate") if getattr(recipe, key)}
    fewer = [(replace(recipe, **{key: value}), how) for key, value in changed.items()]
    fewer += [(recipe, {other: how[other] for other in how if other != key}) for key in how]
    for less in fewer:
        without = by_definition(head, x, y, np.random.default_rng(1), 2, less[0], **less[1])
        assert abs(got[0] - without[0]).max() > 1e-3, "each option makes a difference"


@pytest.mark.parametrize("build", BOTH)
def test_options_that_do_nothing_leave_every_bit(build) -> None:
    """FedProx of μ = 0 (or nearly) and SCAFFOLD of c = c_k are FedAvg; weights of 1 do nothing."""
    x, y = data()
    head = initial_head(SPEC, 0)
    plain = build(SPEC, PLAIN).train(head, x, y, generator(0, "a"), 3)
    nothing = tuple(np.zeros_like(array) for array in head)
    how = {"correction": nothing, "class_weights": np.ones(3, np.float32)}
    assert replace(PLAIN, proximal=0.0) == PLAIN
    corrected = build(SPEC, replace(PLAIN, corrected=True))
    for other in (
        build(SPEC, replace(PLAIN, proximal=1e-30)).train(head, x, y, generator(0, "a"), 3),
        corrected.train(head, x, y, generator(0, "a"), 3, **how),
        corrected.train(head, x, y, generator(0, "a"), 3),
    ):
        for a, b in zip(plain, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_recipe_takes_from_the_config_what_its_strategy_uses() -> None:
    rest = {"weight_decay": 0.01}
    assert Recipe.from_config(RunConfig(**rest)) == Recipe("sgd", 4.0, 32, 1, **rest, backbone_rate=0.01)
    assert Recipe.from_config(RunConfig(strategy="fedprox")).proximal == 0.01
    assert Recipe.from_config(RunConfig(strategy="perfedavg")).inner_rate == 1.0
    assert Recipe.from_config(RunConfig(strategy="scaffold")).corrected


@given(st.integers(1, 60), st.integers(1, 20))
def test_pairs_hold_every_batch_in_order_and_the_odd_one_twice(n: int, size: int) -> None:
    rows = batches(n, size, np.random.default_rng(0))
    paired = pairs(rows)
    np.testing.assert_array_equal(paired.reshape(-1, size)[: len(rows)], rows)
    assert paired.shape == (-(-len(rows) // 2), 2, size)
    np.testing.assert_array_equal(paired[-1, 1], rows[-1])


@pytest.mark.parametrize(
    "optimizer",
    ["sgd", "nesterov", *(pytest.param(name, marks=pytest.mark.full) for name in ("adam", "rmsprop"))],
)
def test_a_share_of_the_rate_is_that_rate_on_the_same_trainer(optimizer: str) -> None:
    x, y = data()
    head = initial_head(SPEC, 0)
    t = make(SPEC, optimizer, 0.04, 32)
    quarter = t.train(head, x, y, generator(0, "a"), 3, rate=0.25)
    assert make(SPEC, optimizer, 0.04, 32) is t
    for rate, got in ((0.01, quarter), (0.04, t.train(head, x, y, generator(0, "a"), 3))):
        for a, b in zip(
            make(SPEC, optimizer, rate, 32).train(head, x, y, generator(0, "a"), 3), got, strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "optimizer",
    [
        name if name in ("adam", "adamw") else pytest.param(name, marks=pytest.mark.full)
        for name in sorted({*get_args(Optimizer)} - {"ftrl"})
    ],
)
def test_weight_decay_is_decoupled_and_spares_biases(optimizer: str) -> None:
    """On images of nothing kernels have no gradient: only the decay moves them (SGD: see above)."""
    head = tuple(np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in SPEC.shapes)
    x, y = np.zeros((64, 12), np.float32), np.arange(64) % 3
    for build in [KerasTrainer, LinearTrainer] if is_linear(SPEC, optimizer) else [KerasTrainer]:
        after = {}
        for decay in (0.0, 0.5):
            t = build(SPEC, Recipe(optimizer, 0.1, 32, 1, weight_decay=decay))
            after[decay] = t.train(head, x, y, np.random.default_rng(0), 3, rate=0.5)
        np.testing.assert_allclose(after[0.5][0], head[0] * (1 - 0.05 * 0.5) ** 6, rtol=1e-5)
        np.testing.assert_array_equal(after[0.5][1], after[0.0][1])
        assert not np.array_equal(after[0.0][1], head[1])


def test_linear_heads_by_common_optimizers_are_trained_without_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainers, "_pool", trainers._Pool)  # which keeps none of what is returned here
    monkeypatch.setattr(trainers, "_keras_trainer", lambda *_: "by Keras")
    for optimizer in ("sgd", "momentum", "nesterov", "adam", "adamw"):
        assert isinstance(make(SPEC, optimizer, 1.0, 32), LinearTrainer)
    assert isinstance(make(HeadSpec(12, 3, dropout=0.1, l2=0.1), "sgd", 1.0, 32), LinearTrainer)
    assert make(HeadSpec(12, 3, hidden_units=4), "sgd", 1.0, 32) == "by Keras"
    assert make(SPEC, "adagrad", 1.0, 32) == "by Keras"


recipes = st.builds(
    Recipe,
    st.sampled_from(["sgd", "momentum", "nesterov", "adam", "adamw"]),
    st.floats(0.01, 1),
    st.integers(1, 40),
    st.just(1),
    proximal=st.sampled_from([0.0, 0.3]),
    weight_decay=st.sampled_from([0.0, 0.1]),
    inner_rate=st.sampled_from([0.0, 0.5]),
    corrected=st.booleans(),
)


@examples(8, 20)
@given(
    recipes, st.integers(1, 90), st.integers(1, 4), st.floats(0.01, 1), st.booleans(), st.integers(0, 99),
    st.sampled_from([0.0, 0.01]),
)  # fmt: skip
@pytest.mark.run
def test_both_trainers_give_the_same_head(
    recipe: Recipe, n: int, epochs: int, rate: float, weighted: bool, seed: int, l2: float
) -> None:
    """On features of length one curvature is at most 1: up to rate 2 no step amplifies rounding.

    Beyond that float32 results of any two programs part: at rate 7 and one image a step by 2e-4
    after 40 steps. Momentum takes tenfold steps. Adam's are of the rate whatever the gradient, so
    one that rounding left of 0 tells.
    """
    slower = {"sgd": 1.0, "momentum": 0.1, "nesterov": 0.1}.get(recipe.optimizer, 0.02)
    recipe, spec = replace(recipe, learning_rate=recipe.learning_rate * slower), replace(SPEC, l2=l2)
    x, y = data(n, seed)
    head = tuple(np.random.default_rng(seed).normal(size=shape).astype(np.float32) for shape in SPEC.shapes)
    both = (LinearTrainer(spec, recipe), KerasTrainer(spec, recipe))
    how = {
        "rate": rate,
        "correction": LEAN if recipe.corrected else None,
        "class_weights": WEIGHTS if weighted else None,
    }
    heads = [t.train(head, x, y, np.random.default_rng(seed), epochs, **how) for t in both]
    for a, b in zip(*heads, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3 if "adam" in recipe.optimizer else 1e-5)
    np.testing.assert_allclose(*(t.predict(head, x) for t in both), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "optimizer",
    [
        name if name in ("sgd", "adam", "adadelta") else pytest.param(name, marks=pytest.mark.full)
        for name in get_args(Optimizer)
    ],
)
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


@pytest.mark.parametrize("build", BOTH)
def test_dropout_drops_a_share_of_features_and_scales_up_the_others(build) -> None:
    """One step on one image from zeros: the gradient is (p - y) ⊗ features, of which p is known."""
    spec, rate, steps = HeadSpec(1000, 2, dropout=0.3), 0.5, 6
    x, y = np.linspace(0.5, 1.5, 1000, dtype=np.float32)[None], np.zeros(1, int)
    zeros = tuple(np.zeros(shape, np.float32) for shape in spec.shapes)
    rng, t = np.random.default_rng(0), build(spec, Recipe("sgd", rate, 1, 1))
    moved = np.array([t.train(zeros, x, y, rng, 1)[0][:, 0] / (rate * 0.5 * x[0]) for _ in range(steps)])
    kept = moved > 0.5
    np.testing.assert_allclose(moved[kept], 1 / 0.7, rtol=1e-5)
    np.testing.assert_array_equal(moved[~kept], 0)
    # 6,000 tosses: a deviation of 0.6 %; and those of two steps agree by chance, at 0.58 ± 1.6 %.
    assert abs(kept.mean() - 0.7) < 0.03
    assert 0.5 < np.mean(kept[0] == kept[1]) < 0.66


def test_dropout_draws_are_the_same_however_many_batches_are_worked_with_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = data()
    spec = HeadSpec(12, 3, dropout=0.5)
    for inner_rate in (0.0, 0.5):
        t = LinearTrainer(spec, Recipe("momentum", 0.3, 8, 1, inner_rate=inner_rate))
        whole = t.train(initial_head(spec, 0), x, y, generator(0, "a"), 3)
        with monkeypatch.context() as smaller:
            smaller.setattr(linear, "_CHUNK", 200)
            parts = t.train(initial_head(spec, 0), x, y, generator(0, "a"), 3)
        np.testing.assert_array_equal(whole[0], parts[0])


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


def test_runs_that_differ_in_their_seed_share_what_is_built_above_a_cut() -> None:
    """Or a process that makes many runs would hold the convolutions of each."""
    backbone, recipe = shared_backbone(), Recipe("adam", 0.1, 16, 1)
    one, other = (head_spec(RunConfig(seed=seed), backbone, 3, "conv4_block2") for seed in (0, 1))
    assert head_spec(RunConfig(seed=0, normalise=False), backbone, 3, "conv4_block2") != one
    with trainer(one, recipe) as first:
        pass
    with trainer(other, recipe) as second:
        assert first is second


def test_the_backbone_is_frozen_bit_for_bit() -> None:
    backbone = load_backbone(BUNDLED)
    before = [weight.copy() for weight in backbone.network.get_weights()]
    images = np.random.default_rng(0).uniform(0, 255, (9, 64, 64, 3)).astype(np.float32)
    features = backbone.extractor(9)(images)
    spec = HeadSpec(backbone.features, 3)
    with trainer(spec, Recipe("sgd", 1.0, 8, 3)) as t:
        t.train(initial_head(spec, 0), features, np.arange(9) % 3, generator(0, "x"), 3)
    for old, new in zip(before, backbone.network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
