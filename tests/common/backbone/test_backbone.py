from pathlib import Path

import numpy as np
import pytest
from keras.src.backend.config import keras_home
from pictures import picture
from small_network import shared_backbone, thin_resnet50v2

from fedtransfer.common.backbone.backbone import Backbone, backbone_of_network, load_backbone
from fedtransfer.common.config.config import BUNDLED
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.extraction import open_store
from fedtransfer.common.tensorflow import keras


def test_bundled_backbone_is_the_one_that_sites_agree_on() -> None:
    backbone = load_backbone(BUNDLED)
    assert (backbone.resolution, backbone.features) == (64, 256)
    assert backbone.mean is not None
    assert backbone.mean.shape == (256,)
    # Changes only with architecture, weights or preprocessing; then every site must be updated.
    assert backbone.fingerprint == "e51d5d8161d642e545332e09097a5fbe988765776968c0368f607c794f814cf2"


def copy_of(backbone: Backbone) -> Backbone:
    network = keras.models.clone_model(backbone.network)
    network.set_weights(backbone.network.get_weights())
    return backbone_of_network(backbone.name, backbone.resolution, network, backbone.mean)


def test_fingerprint_covers_weights_architecture_and_mean_but_not_names() -> None:
    backbone = shared_backbone()
    assert copy_of(backbone).fingerprint == backbone.fingerprint
    changed = copy_of(backbone)
    weights = changed.network.get_weights()
    weights[7].flat[0] = np.nextafter(weights[7].flat[0], np.float32(9))
    changed.network.set_weights(weights)
    changed = backbone_of_network("small", 16, changed.network, backbone.mean)
    tops = [keras.layers.Activation("linear", name="other"), keras.layers.Activation("relu")]
    renamed, other = (
        backbone_of_network(
            backbone.name,
            16,
            keras.Model(backbone.network.input, top(backbone.network.layers[-2].output)),
            backbone.mean,
        )
        for top in tops
    )
    assert renamed.fingerprint == backbone.fingerprint
    prints = {
        changed.fingerprint,
        other.fingerprint,
        backbone_of_network(backbone.name, 16, backbone.network).fingerprint,
        backbone.fingerprint,
    }
    assert len(prints) == 4


def test_resize_takes_the_middle_square() -> None:
    backbone = load_backbone(BUNDLED)
    wide = np.zeros((50, 150, 3), np.uint8)
    wide[:, 50:100] = 200
    resized = backbone.resize(wide[None])[0]
    assert resized.shape == (64, 64, 3)
    np.testing.assert_allclose(resized, 200, atol=1e-3)
    same = np.asarray(picture((90, 90, 90), 3, (64, 64)))
    np.testing.assert_allclose(backbone.resize(same[None])[0], same, atol=1e-4)


def test_images_of_one_size_resized_together_are_the_same_bits() -> None:
    backbone = load_backbone(BUNDLED)
    for size in ((32, 32), (50, 37)):
        images = np.stack([np.asarray(picture((90, 20 * i, 90), i, size)) for i in range(5)])
        np.testing.assert_array_equal(
            backbone.resize(images), np.concatenate([backbone.resize(image[None]) for image in images])
        )


def test_network_does_not_train_and_normalises_in_inference_mode() -> None:
    network = load_backbone(BUNDLED).network
    assert network.trainable_variables == []
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 3)).astype(np.float32)
    one, four = network(pixels[:1], training=False).numpy(), network(pixels, training=False).numpy()
    np.testing.assert_allclose(one[0], four[0], atol=1e-4)  # an image's features do not depend on its batch


@pytest.fixture
def thin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``resnet50v2`` name a network with fewer blocks and filters."""
    monkeypatch.setattr(keras.applications, "ResNet50V2", thin_resnet50v2)


def test_missing_imagenet_weights_say_which_file_and_where(
    monkeypatch: pytest.MonkeyPatch, thin: None
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("URL fetch failure")

    monkeypatch.setattr(keras.utils, "get_file", no_network)
    with pytest.raises(UserError) as caught:
        load_backbone("resnet50v2")
    for words in (
        "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        str(Path(keras_home()) / "models"),
        "--weights FILE",
    ):
        assert words in str(caught.value)


@pytest.mark.run
def test_weights_that_are_none(tmp_path: Path, thin: None) -> None:
    with pytest.raises(UserError, match=r"--weights .*gone\.h5: no such file"):
        load_backbone("resnet50v2", str(tmp_path / "gone.h5"))
    other = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(other)
    with pytest.raises(UserError, match=r"other\.weights\.h5: not weights of resnet50v2"):
        load_backbone("resnet50v2", str(other))


def test_bfloat16_is_refused_where_the_hardware_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "fedtransfer.common.backbone.backbone.why_no_bfloat16", lambda engine: "this abacus has beads only"
    )
    with pytest.raises(UserError, match=r"bfloat16 .*this abacus has beads only.* float32"):
        load_backbone(BUNDLED, resolution=96, precision="bfloat16")  # no other test has loaded it so


@pytest.mark.run
def test_bfloat16_features_are_near_those_of_float32(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Computed anywhere, if slowly.
    monkeypatch.setattr("fedtransfer.common.backbone.backbone.why_no_bfloat16", lambda engine: "")
    exact, fast = load_backbone(BUNDLED), load_backbone(BUNDLED, precision="bfloat16")
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 3)).astype(np.float32)
    a, b = (backbone.extractor(4)(pixels) for backbone in (exact, fast))
    assert b.dtype == np.float32
    assert not (a == b).all(), "nothing was computed in bfloat16"
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() > 0.999
    assert exact.fingerprint == fast.fingerprint
    assert {open_store(backbone, str(tmp_path)).folder for backbone in (exact, fast)} == {
        tmp_path / f"{BUNDLED}-64px-{exact.fingerprint[:16]}-openvino{suffix}" for suffix in ("", "-bfloat16")
    }


@pytest.mark.run
def test_local_weights_of_each_kind_give_the_same_features(tmp_path: Path, thin: None) -> None:
    network = keras.applications.ResNet50V2(include_top=False, weights=None, pooling="avg")
    files = [tmp_path / "a.weights.h5", tmp_path / "b.keras"]
    network.save_weights(files[0])
    network.save(files[1])
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    expected = network(keras.applications.resnet_v2.preprocess_input(pixels.copy()), training=False)
    loaded = [load_backbone("resnet50v2", str(file), 64) for file in files]
    assert len({backbone.fingerprint for backbone in loaded}) == 1
    for backbone in loaded:
        np.testing.assert_allclose(backbone.network(pixels, training=False), expected, rtol=1e-4, atol=1e-5)
