from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pictures import picture
from small_network import moved, pixels, shared_backbone, small_backbone, thin_resnet50v2

from fedtransfer.common.backbone.backbone import Backbone, backbone_of_network, load_backbone
from fedtransfer.common.backbone.cut import cut, cuts
from fedtransfer.common.backbone.networks import small_resnet
from fedtransfer.common.data.images import Image
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.extraction import extract, open_store
from fedtransfer.common.tensorflow import keras

LAYERS = ("conv4_block2", "conv4", "conv3_block2", "conv3", "conv2_block2", "conv2", "conv1")


def features(backbone: Backbone, layer: str, images: np.ndarray) -> np.ndarray:
    """What the two parts make of images, one after the other."""
    parts = cut(backbone, layer)
    assert parts.above
    at_the_cut = parts.below.extractor(len(images))(images)
    assert at_the_cut.shape == (len(images), parts.above.width)
    return parts.above.build()(at_the_cut, training=False).numpy()


@pytest.mark.run
def test_both_parts_make_the_whole_and_the_whole_stays_as_it_is() -> None:
    backbone, images = small_backbone(), pixels(5)
    before, layers = (
        backbone.network.get_weights(),
        [len(layer._outbound_nodes) for layer in backbone.network.layers],
    )
    whole = backbone.network(images, training=False).numpy()
    for layer in LAYERS:
        np.testing.assert_allclose(features(backbone, layer, images), whole, rtol=1e-5, atol=1e-6)
    for old, new in zip(before, backbone.network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert [len(layer._outbound_nodes) for layer in backbone.network.layers] == layers
    assert not backbone.network.trainable_variables


def check_resnet(build: Callable[..., keras.Model], resolution: int, expected: dict[str, int]) -> None:
    """At the end of conv4 the shortcut is pooled by a layer of another name."""
    network = moved(build(include_top=False, weights=None, pooling="avg"))
    backbone, images = (
        backbone_of_network("resnet50v2", resolution, network),
        pixels(2, resolution) / 127.5 - 1,
    )
    whole = network(images, training=False).numpy()
    for layer, width in expected.items():
        np.testing.assert_allclose(features(backbone, layer, images), whole, rtol=1e-5, atol=1e-5)
        assert cut(backbone, layer).below.features == width


@pytest.mark.run
def test_a_resnet_of_keras_is_cut_with_its_shortcuts_whole() -> None:
    check_resnet(thin_resnet50v2, 64, {"conv4_block2": 4 * 4 * 16})


@pytest.mark.run
@pytest.mark.full
def test_resnet50v2_is_cut_with_its_shortcuts_whole() -> None:
    check_resnet(keras.applications.ResNet50V2, 64, {"conv5": 4096, "conv4_block6": 16384})
    check_resnet(keras.applications.ResNet50V2, 224, {"conv5": 50176})


@pytest.mark.run
@pytest.mark.parametrize("preprocessing", [pytest.param("auto", marks=pytest.mark.full), "caffe"])
def test_a_file_of_ones_own_is_cut_inside_the_model_in_it(tmp_path: Path, preprocessing: str) -> None:
    moved(small_resnet((4, 8))).save(tmp_path / "own.keras")
    backbone, images = load_backbone(str(tmp_path / "own.keras"), "", 16, preprocessing), pixels(3)
    whole = backbone.network(images, training=False).numpy()
    for layer in ("conv3_block2", "conv3", "conv1"):
        np.testing.assert_allclose(features(backbone, layer, images), whole, rtol=1e-5, atol=1e-5)


def test_a_network_that_calls_a_layer_twice_and_adds_without_a_layer(tmp_path: Path) -> None:
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", name="a")(image)
    twice = keras.layers.Conv2D(4, 3, padding="same", name="b")
    x = keras.ops.relu(x + twice(twice(x)))
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(x)).save(tmp_path / "own.keras")
    backbone = load_backbone(str(tmp_path / "own.keras"))
    whole = backbone.network(pixels(2), training=False).numpy()
    np.testing.assert_allclose(features(backbone, "b", pixels(2)), whole, rtol=1e-5, atol=1e-6)
    assert cut(backbone, "b").above.names == ("b/kernel", "b/bias")


def test_only_convolutions_are_trained_from_the_cut_upwards() -> None:
    backbone = shared_backbone()
    names = [cut(backbone, layer).above.names for layer in LAYERS[::2]]  # blocks and the first layer
    assert names[0] == ("conv4_block2_1_conv/kernel", "conv4_block2_2_conv/kernel")
    for shallow, deep in pairwise(names):
        assert deep[-len(shallow) :] == shallow
        assert len(deep) > len(shallow)
    above = cut(backbone, "conv4").above
    for name, value in zip(above.names, above.pretrained, strict=True):
        np.testing.assert_array_equal(value, backbone.network.get_layer(name.split("/")[0]).get_weights()[0])
    assert above.shapes == tuple(tuple(v.shape) for v in above.build().trainable_variables)


def one_stage() -> Backbone:
    return backbone_of_network("small", 16, moved(small_resnet((4,))), np.linspace(0, 1, 4, dtype=np.float32))


def test_equal_are_the_same_cuts_of_the_same_backbone() -> None:
    backbone, again = one_stage(), one_stage()
    stage = cut(backbone, "conv2")
    for same in (cut(backbone, "conv2_block1"), cut(again, "conv2")):
        assert (same.above, hash(same.above)) == (stage.above, hash(stage.above))
        assert (same.below.name, same.below.fingerprint) == (stage.below.name, stage.below.fingerprint)
    weights = backbone.network.get_weights()
    weights[-5].flat[0] += 1  # above the cut: what crosses it is the same, but the whole is another
    network = one_stage().network
    network.set_weights(weights)
    again = backbone_of_network("small", 16, network, backbone.mean)
    without = backbone_of_network("small", 16, backbone.network)
    others = (cut(again, "conv2"), cut(backbone, "conv2_block2"), cut(without, "conv2"))
    assert len({stage.above, *(other.above for other in others)}) == 4


def test_the_head_alone_leaves_the_backbone_whole() -> None:
    backbone = shared_backbone()
    parts = cut(backbone, "head")
    assert parts.below is backbone
    assert parts.above is None


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        ("conv6", "no layer's name is that or begins with it"),
        ("conv", "no layer's name"),
        ("image", "no layer's name"),
        (
            "conv4_block1_2_conv",
            "several tensors cross .* conv4_block1_2_relu, conv4_block1_0_conv, and only one",
        ),
        (
            "conv4_block2_1_conv",
            "several tensors cross .* conv4_block2_preact_relu, conv4_block1_add, and only one",
        ),
        ("post_bn", "no convolution is left"),
    ],
)
def test_where_it_cannot_be_cut_the_names_that_can_be_given_are_listed(layer: str, why: str) -> None:
    names = (
        r"give head, or one of conv4_block2 \(1,152 parameters\), conv4 \(2,208 .*\), "
        r"conv3_block2 \(2,856 .*\), conv3 \(3,420 .*\), conv2_block2 \(3,708 .*\), "
        r"conv2 \(3,996 .*\), conv1 \(4,104 parameters\)$"
    )
    with pytest.raises(UserError, match=f"layer '{layer}' of small: {why}.*; {names}"):
        cut(shared_backbone(), layer)


def test_each_layer_must_be_deeper_than_the_one_before() -> None:
    backbone = shared_backbone()
    assert [parts.layer for parts in cuts(backbone, ["head", "conv4_block2", "conv3"])] == [
        "head",
        "conv4_block2",
        "conv3",
    ]
    for layers in (["conv4", "conv4_block2"], ["head", "conv4", "conv4_block1"], ["conv4", "head"]):
        with pytest.raises(UserError, match=f"{layers[-1]} .* small than {layers[-2]}"):
            cuts(backbone, layers)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_crosses_the_cut_is_stored_as_features_are(tmp_path: Path, precision: str) -> None:
    backbone = replace(shared_backbone(), precision=precision)
    for i in range(3):
        picture((90, 40 * i, 90), i, (30, 20)).save(tmp_path / f"{i}.png")
    images = [Image(str(tmp_path / f"{i}.png"), "x") for i in range(3)]
    below = cut(backbone, "conv4").below
    store = open_store(below, str(tmp_path / "store"))
    assert store.folder.name.startswith("small-below-conv3_block2_add-16px-")
    extraction = extract(store, below, images, threads=1)
    assert extraction.extracted == 3
    stored = store.read([key for key in extraction.keys if key])
    assert stored.shape == (3, 4 * 4 * 6)
    resized = np.concatenate(
        [below.resize(np.asarray(picture((90, 40 * i, 90), i, (30, 20)))[None]) for i in range(3)]
    )
    inside = keras.Model(backbone.network.input, backbone.network.get_layer("conv3_block2_add").output)
    expected = inside(resized, training=False).numpy().reshape(3, -1)
    rounding = {"rtol": 1e-5, "atol": 1e-5} if precision == "float32" else {"atol": 0.1}
    np.testing.assert_allclose(stored, expected, **rounding)
    assert len(open_store(backbone, str(tmp_path / "store"))) == 0
