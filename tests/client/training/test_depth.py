"""Training above a cut, against the whole network with the rest frozen."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from small_network import pixels, shared_backbone, small_backbone

from fedtransfer.client.training.keras import KerasTrainer
from fedtransfer.client.training.linear import LinearTrainer
from fedtransfer.client.training.trainer import Recipe, batches
from fedtransfer.client.training.trainers import trainer
from fedtransfer.common.backbone.backbone import Backbone, backbone_of_network
from fedtransfer.common.backbone.cut import Cut, cut
from fedtransfer.common.features.feature_map import FeatureMap
from fedtransfer.common.head.head import HeadSpec, initial_head
from fedtransfer.common.head.keras_head import build_above
from fedtransfer.common.tensorflow import keras, tf

pytestmark = pytest.mark.run  # it trains whole networks
N, CLASSES = 22, 3
Y = np.arange(N) % CLASSES


def centred(backbone: Backbone) -> Callable[[Any], Any]:
    """What the feature map of the parts does, in layers of its own."""
    return lambda x: keras.layers.UnitNormalization()(
        keras.layers.Rescaling(1.0, (-backbone.mean).tolist())(x)
    )


@cache
def shared_cut(layer: str) -> Cut:
    return cut(shared_backbone(), layer)


def parts_of(layer: str) -> tuple[Backbone, Cut, HeadSpec, np.ndarray]:
    """A backbone, its cut, what is trained above, and the images' values at the cut."""
    backbone, parts = shared_backbone(), shared_cut(layer)
    mapped = FeatureMap(backbone.features, np.asarray(backbone.mean, np.float32))
    spec = HeadSpec(backbone.features, CLASSES, above=parts.above, feature_map=mapped)
    return backbone, parts, spec, parts.below.network(pixels(N), training=False).numpy()


def start(spec: HeadSpec) -> tuple[np.ndarray, ...]:
    """Pretrained convolutions and a head that is not zero: gradients pass from the start."""
    rng = np.random.default_rng(1)
    head = initial_head(spec, 0)
    return (*head[:-2], *(rng.normal(size=array.shape).astype(np.float32) for array in head[-2:]))


PENALTIES = {"none": (0.0, 0.0), "all": (1e-2, 0.1)}  # l2, proximal


@pytest.mark.parametrize(
    ("layer", "penalties"),
    [
        ("conv4_block2", "none"),
        ("conv4", "all"),
        *(
            pytest.param(layer, penalties, marks=pytest.mark.full)
            for layer, penalties in (
                ("conv4_block2", "all"), ("conv4", "none"),
                ("conv3", "none"), ("conv3", "all"), ("conv1", "none"), ("conv1", "all"),
            )
        ),
    ],
)  # fmt: skip
def test_it_is_training_the_full_network_with_the_rest_frozen(layer: str, penalties: str) -> None:
    l2, proximal = PENALTIES[penalties]
    backbone, _, spec, at_the_cut = parts_of(layer)
    spec = HeadSpec(spec.features, CLASSES, l2=l2, above=spec.above, feature_map=spec.feature_map)
    head = start(spec)
    ours = KerasTrainer(spec, Recipe("sgd", 0.2, 8, 1, proximal=proximal)).train(
        head, at_the_cut, Y, np.random.default_rng(5), 2
    )

    full = small_backbone().network
    top = keras.layers.Dense(CLASSES)
    model = keras.Model(full.input, top(centred(backbone)(full.output)))
    top.set_weights(head[-2:])
    trained = [full.get_layer(name.split("/")[0]).kernel for name in spec.above.names] + [
        top.kernel,
        top.bias,
    ]
    anchors, rng = [v.numpy() for v in trained], np.random.default_rng(5)
    for _ in range(2):
        for row in batches(N, 8, rng):
            row = row[row >= 0]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([v.value for v in trained])
                scores = model(pixels(N)[row], training=False)
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(Y[row], scores))
                loss += sum(l2 * tf.reduce_sum(v**2) for v in trained[:-1])
            for v, w0, g in zip(
                trained, anchors, tape.gradient(loss, [v.value for v in trained]), strict=True
            ):
                v.assign(v - 0.2 * (g + proximal * (v - w0)))
    for got, expected, before in zip(ours, trained, head, strict=True):
        np.testing.assert_allclose(got, expected.numpy(), rtol=1e-5, atol=1e-5)
        assert abs(got - before).max() > 1e-3


def test_the_backbone_and_all_statistics_stay_bit_for_bit() -> None:
    backbone, parts, spec, at_the_cut = parts_of("conv3")
    whole, lower, pretrained = (
        backbone.network.get_weights(),
        parts.below.network.get_weights(),
        spec.above.pretrained,
    )
    kept = [array.copy() for array in pretrained]
    t = KerasTrainer(spec, Recipe("adam", 0.01, 8, 1))
    fixed = {v.path: v.numpy() for part in t._parts for v in part.non_trainable_variables}
    t.train(start(spec), at_the_cut, Y, np.random.default_rng(0), 3)
    assert {path.split("/")[1] for path in fixed} == {"gamma", "beta", "moving_mean", "moving_variance"}
    for part in t._parts:
        for v in part.non_trainable_variables:
            np.testing.assert_array_equal(v.numpy(), fixed[v.path])
    for before, after in (
        (whole, backbone.network.get_weights()),
        (lower, parts.below.network.get_weights()),
    ):
        for a, b in zip(before, after, strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(kept, pretrained, strict=True):
        np.testing.assert_array_equal(a, b)


def test_probabilities_are_the_full_networks() -> None:
    backbone, _, spec, at_the_cut = parts_of("conv4")
    head = start(spec)
    scores = centred(backbone)(backbone.network(pixels(N), training=False)) @ head[-2] + head[-1]
    t = KerasTrainer(spec, Recipe("sgd", 0.1, 8, 1))
    np.testing.assert_allclose(t.predict(head, at_the_cut), tf.nn.softmax(scores), rtol=1e-5, atol=1e-6)
    assert t.predict(head, at_the_cut[:0]).shape == (0, CLASSES)
    for before, after in zip(
        head, t.train(head, at_the_cut[:0], Y[:0], np.random.default_rng(0), 2), strict=True
    ):
        np.testing.assert_array_equal(before, after)


def test_nothing_depends_on_how_much_is_handed_over_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, spec, at_the_cut = parts_of("conv4")
    spec = HeadSpec(spec.features, CLASSES, dropout=0.5, above=spec.above, feature_map=spec.feature_map)
    t, head = KerasTrainer(spec, Recipe("adam", 0.01, 8, 1)), start(spec)
    together = t.train(head, at_the_cut, Y, np.random.default_rng(0), 2), [t.predict(head, at_the_cut)]
    monkeypatch.setattr("fedtransfer.client.training.keras.CHUNK", 1)
    monkeypatch.setattr("fedtransfer.client.training.keras.BATCH", 3)
    apart = t.train(head, at_the_cut, Y, np.random.default_rng(0), 2), [t.predict(head, at_the_cut)]
    for a, b in zip(together[0], apart[0], strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(together[1], apart[1], rtol=1e-5)


def test_it_learns_what_the_head_alone_cannot() -> None:
    backbone, _, spec, at_the_cut = parts_of("conv3")
    pooled = np.asarray(centred(backbone)(backbone.network(pixels(N), training=False)))
    alone = HeadSpec(backbone.features, CLASSES)
    accuracy = {}
    for name, kind, x in (("head", alone, pooled), ("conv3", spec, at_the_cut)):
        with trainer(kind, Recipe("adam", 0.01, 8, 60)) as t:
            head = t.train(initial_head(kind, 0), x, Y, np.random.default_rng(0), 60)
            accuracy[name] = (t.predict(head, x).argmax(1) == Y).mean()
    assert accuracy["conv3"] > 0.9 > accuracy["head"]


def test_the_head_alone_is_trained_as_before_and_equal_cuts_share_a_trainer() -> None:
    backbone, _, spec, _ = parts_of("conv4")
    same = HeadSpec(
        spec.features, CLASSES, above=cut(backbone, "conv4_block1").above, feature_map=spec.feature_map
    )
    recipe = Recipe("sgd", 0.1, 8, 1)
    with trainer(HeadSpec(backbone.features, CLASSES), recipe) as alone, trainer(spec, recipe) as first:
        assert isinstance(alone, LinearTrainer)
    with trainer(same, recipe) as second:
        assert first is second


def test_layers_that_act_in_training_only_stay_as_in_inference() -> None:
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, name="a")(image)
    x = keras.layers.Dropout(0.9)(keras.layers.BatchNormalization()(x))
    x = keras.layers.Conv2D(4, 3, name="b")(x)
    network = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    backbone = backbone_of_network("own", 16, network)
    parts = cut(backbone, "a")
    spec = HeadSpec(4, CLASSES, above=parts.above)
    assert len(build_above(spec).trainable_variables) == len(spec.above.names) == 4
    x, head = parts.below.network(pixels(N) / 255).numpy(), start(spec)
    one, other = (
        KerasTrainer(spec, Recipe("sgd", 0.1, N, 1)).train(head, x, Y, np.random.default_rng(0), 2)
        for _ in range(2)
    )
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    # One step on the whole batch follows the gradient that the network has in inference.
    once = KerasTrainer(spec, Recipe("sgd", 0.1, N, 1)).train(head, x, Y, np.random.default_rng(0), 1)
    above = build_above(spec)
    with tf.GradientTape() as tape:
        scores = above(x, training=False) @ head[-2] + head[-1]
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(Y, scores))
    for got, before, gradient in zip(
        once, head, tape.gradient(loss, above.trainable_variables), strict=False
    ):
        np.testing.assert_allclose(got, before - 0.1 * gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", [pytest.param("sgd", marks=pytest.mark.full), "adam"])
def test_the_backbone_moves_at_its_share_of_the_rate(optimizer: str) -> None:
    _, _, spec, at_the_cut = parts_of("conv4")
    head, moved = start(spec), []
    for share in (1.0, 0.25):
        t = KerasTrainer(spec, Recipe(optimizer, 0.1, N, 1, backbone_rate=share))
        after = t.train(head, at_the_cut, Y, np.random.default_rng(0), 1)
        moved.append([new - old for new, old in zip(after, head, strict=True)])
    for whole, part in zip(moved[0][:-2], moved[1][:-2], strict=True):
        np.testing.assert_allclose(part, 0.25 * whole, rtol=1e-3, atol=1e-6)
        assert abs(whole).max() > 1e-4
    for whole, part in zip(moved[0][-2:], moved[1][-2:], strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-4, atol=1e-6)
