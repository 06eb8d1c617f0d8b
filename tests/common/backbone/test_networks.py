"""Backbones of the user's own: each format gives the same features; refusals say why."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from small_network import thin_resnet50v2

from fedtransfer.common.backbone.backbone import load_backbone
from fedtransfer.common.backbone.networks import preprocess
from fedtransfer.common.errors import UserError
from fedtransfer.common.tensorflow import keras, tf

PIXELS = np.random.default_rng(0).uniform(0, 255, (3, 40, 40, 3)).astype(np.float32)
layers = keras.layers


def small_model(
    *, size: int | None = None, top: bool = True, own: bool = False, pool: bool = True, seed: int = 0
) -> keras.Model:
    """A small convolutional classifier, deterministic in its weights."""
    image = keras.Input((size, size, 3))
    x = layers.Rescaling(1 / 255, name="to_unit")(image) if own else image
    x = layers.Conv2D(
        6,
        3,
        strides=2,
        activation="relu",
        kernel_initializer=keras.initializers.GlorotUniform(seed),
        name="conv",
    )(x)
    x = layers.BatchNormalization(name="bn")(x)
    if pool:
        x = layers.GlobalAveragePooling2D(name="pool")(x)
    if top:
        x = layers.Dense(5, activation="softmax", name="classes")(x)
    return keras.Model(image, x)


def saved(model: keras.Model, path: Path) -> str:
    model.save(path)
    return str(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_model_file_is_cut_at_its_last_pooling_layer_and_says_so(tmp_path: Path, suffix: str) -> None:
    model = small_model()
    backbone = load_backbone(saved(model, tmp_path / f"my net{suffix}"), "", 40)
    expected = keras.Model(model.input, model.get_layer("pool").output)(PIXELS / 127.5 - 1)
    np.testing.assert_allclose(backbone.network(PIXELS), expected, atol=1e-5)
    assert (backbone.name, backbone.features, backbone.resolution) == ("my_net", 6, 40)
    assert backbone.notes == (
        f"my net{suffix}: cut at pool; the classification top (classes (Dense)) is left out",
        f"my net{suffix}: preprocessing tf (to [-1, 1])",
    )


def test_a_file_without_top_is_taken_whole_and_formats_agree(tmp_path: Path) -> None:
    model = small_model(top=False)
    backbones = [load_backbone(saved(model, tmp_path / name), "", 40) for name in ("a.keras", "a.h5")]
    assert len({backbone.fingerprint for backbone in backbones}) == 1
    assert all("cut at" not in note for backbone in backbones for note in backbone.notes)
    np.testing.assert_allclose(*(backbone.network(PIXELS) for backbone in backbones), atol=1e-5)
    other = load_backbone(saved(small_model(top=False, seed=1), tmp_path / "b.keras"), "", 40)
    assert other.fingerprint != backbones[0].fingerprint


def test_preprocessing_of_its_own_is_kept(tmp_path: Path) -> None:
    model = small_model(top=False, own=True)
    backbone = load_backbone(saved(model, tmp_path / "own.keras"), "", 40)
    np.testing.assert_allclose(backbone.network(PIXELS), model(PIXELS), atol=1e-5)
    assert backbone.notes == ("own.keras: preprocessing is its own (to_unit (Rescaling))",)


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_preprocessing_modes_are_those_of_keras(mode: str) -> None:
    image = keras.Input((None, None, 3))
    model = keras.Model(image, preprocess(image, mode))
    expected = keras.applications.imagenet_utils.preprocess_input(PIXELS.copy(), mode=mode)
    np.testing.assert_allclose(model(PIXELS), expected, atol=1e-4)


def test_a_chosen_preprocessing_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    path = saved(small_model(top=False), tmp_path / "net.keras")
    prints = {load_backbone(path, "", 40, mode).fingerprint for mode in ("tf", "torch", "caffe", "none")}
    assert len(prints) == 4


def test_a_fixed_size_is_the_resolution(tmp_path: Path) -> None:
    path = saved(small_model(size=40), tmp_path / "net.keras")
    assert load_backbone(path).resolution == 40
    with pytest.raises(UserError, match=r"40 x 40 .*--resolution 64"):
        load_backbone(path, "", 64)


def two_inputs() -> keras.Model:
    a, b = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    return keras.Model([a, b], layers.GlobalAveragePooling2D()(layers.Add()([a, b])))


def grey() -> keras.Model:
    image = keras.Input((8, 8, 1))
    return keras.Model(image, layers.GlobalAveragePooling2D()(image))


def oblong() -> keras.Model:
    image = keras.Input((8, 16, 3))
    return keras.Model(image, layers.GlobalAveragePooling2D()(image))


def with_nan() -> keras.Model:
    model = small_model()
    kernel, bias = model.get_layer("conv").get_weights()
    kernel[0, 0, 0, 0] = np.nan
    model.get_layer("conv").set_weights([kernel, bias])
    return model


def blind() -> keras.Model:
    model = small_model()
    model.get_layer("conv").set_weights([np.zeros((3, 3, 3, 6)), np.ones(6)])
    return model


def overflowing() -> keras.Model:
    model = small_model()
    model.get_layer("conv").set_weights([np.full((3, 3, 3, 6), 3e38), np.zeros(6)])
    return model


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (two_inputs, "2 inputs and 1 outputs"),
        (grey, r"\(None, 8, 8, 1\); expected RGB"),
        (oblong, r"\(None, 8, 16, 3\); expected square"),
        (
            lambda: small_model(pool=False, top=False),
            r"no global pooling layer .*bn \(BatchNormalization\)",
        ),
        (with_nan, "weights that are NaN or infinite"),
        (overflowing, "features that are NaN or infinite; .*--preprocessing"),
        (blind, "the same features for different images"),
    ],
)
def test_surprises_are_refused_in_words(tmp_path: Path, make: Callable[[], keras.Model], words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_backbone(saved(make(), tmp_path / "net.keras"), "", 0)


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--backbone .*gone\.keras: no such file"):
        load_backbone(str(tmp_path / "gone.keras"))
    (tmp_path / "bad.keras").write_bytes(b"no")
    with pytest.raises(UserError, match=r"bad\.keras: (.|\n)*--backbone NAME --weights FILE"):
        load_backbone(str(tmp_path / "bad.keras"))
    small_model().save_weights(tmp_path / "only.weights.h5")
    with pytest.raises(UserError, match=r"only\.weights\.h5: (.|\n)*--weights FILE"):
        load_backbone(str(tmp_path / "only.weights.h5"))


# --- weights of a named architecture


Architecture = tuple[keras.Model, np.ndarray]  # with random weights, and its features of PIXELS
WHOLE = keras.applications.ResNet50V2


@cache
def resnet(build: Callable[..., keras.Model]) -> Architecture:
    """ResNet50V2 as Keras builds it, or a thin one."""
    keras.utils.set_random_seed(0)
    model = build(include_top=True, weights=None)
    body = keras.Model(model.input, model.get_layer("avg_pool").output)
    inside = build(include_top=False, weights=None, pooling="avg")
    inside.set_weights(body.get_weights())
    return model, np.asarray(
        inside(keras.applications.resnet_v2.preprocess_input(PIXELS.copy()), training=False)
    )


@pytest.fixture
def thin(monkeypatch: pytest.MonkeyPatch) -> Architecture:
    """What ``resnet50v2`` names, with fewer blocks and filters."""
    monkeypatch.setattr(keras.applications, "ResNet50V2", thin_resnet50v2)
    return resnet(thin_resnet50v2)


def named(model: keras.Model) -> dict[str, np.ndarray]:
    return {
        f"{layer.name}/{weight.name}": weight.numpy() for layer in model.layers for weight in layer.weights
    }


def keras_3_checkpoint(model: keras.Model, path: Path) -> None:
    tf.train.Checkpoint(model=model).write(str(path))


def keras_2_checkpoint(model: keras.Model, path: Path) -> None:
    """As Keras 2 writes it: variables below layer_with_weights-N, an optimizer beside.

    The variables' own names stand in the object graph.
    """
    root = tf.Module()
    for i, layer in enumerate(layer for layer in model.layers if layer.weights):
        node = tf.Module()
        for weight in layer.weights:
            setattr(node, weight.name, tf.Variable(weight.numpy(), name=f"{layer.name}/{weight.name}"))
        setattr(root, f"layer_with_weights-{i}", node)
    optimizer = tf.Module()
    optimizer.iter = tf.Variable(3, name="Adam/iter")
    tf.train.Checkpoint(root=root, optimizer=optimizer).write(str(path))


def tensorflow_1_checkpoint(model: keras.Model, path: Path) -> None:
    arrays = {**named(model), "global_step": np.int64(7)}
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=list(arrays.values()),
    )


FORMATS: dict[str, Callable[[keras.Model, Path], None]] = {
    "full.weights.h5": lambda model, path: model.save_weights(path),
    "full.keras": lambda model, path: model.save(path),
    "full.h5": lambda model, path: model.save(path),
    "keras3-checkpoint": keras_3_checkpoint,
    "keras2-checkpoint": keras_2_checkpoint,
    "tf1-checkpoint": tensorflow_1_checkpoint,
}


def check_format(folder: Path, name: str, model: keras.Model, expected: np.ndarray) -> None:
    FORMATS[name](model, folder / name)
    backbone = load_backbone("resnet50v2", str(folder / name), 40)
    np.testing.assert_allclose(backbone.network(PIXELS, training=False), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.run
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_of_weights_gives_the_same_features(
    tmp_path: Path, thin: Architecture, name: str
) -> None:
    check_format(tmp_path, name, *thin)


@pytest.mark.run
@pytest.mark.full
@pytest.mark.parametrize("name", FORMATS)
def test_the_whole_architecture_takes_weights(tmp_path: Path, name: str) -> None:
    check_format(tmp_path, name, *resnet(WHOLE))


def test_unmatched_variables_are_listed(tmp_path: Path, thin: Architecture) -> None:
    arrays = named(thin[0])
    arrays["conv1_conv/kernel_of_another_name"] = arrays.pop("conv1_conv/kernel")
    arrays["post_bn/gamma"] = arrays["post_bn/gamma"][:10]
    path = tmp_path / "other"
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=list(arrays.values()),
    )
    with pytest.raises(UserError) as caught:
        load_backbone("resnet50v2", str(path))
    for words in (
        "not weights of resnet50v2",
        "missing in the file: conv1_conv/kernel",
        "unknown to the network: conv1_conv/kernel_of_another_name",
        "post_bn/gamma (10,), expected (20,)",
    ):
        assert words in str(caught.value)


def test_a_damaged_checkpoint(tmp_path: Path, thin: Architecture) -> None:
    (tmp_path / "bad.index").write_bytes(b"nothing")
    with pytest.raises(UserError, match="bad: not a readable TensorFlow checkpoint"):
        load_backbone("resnet50v2", str(tmp_path / "bad"))
