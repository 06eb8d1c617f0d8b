"""A decoder can be trained anew: on public images only, and a few steps lower its loss."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoder_training import public_images, save_decoder, train_decoder
from pictures import COLOURS, picture
from small_network import small_backbone

from fedtransfer.common.backbone.backbone import Backbone
from fedtransfer.common.data.images import archive_arrays, content_key
from fedtransfer.common.data.sources import Source, read_source
from fedtransfer.common.errors import UserError
from fedtransfer.simulations.audit.decoder import Decoder, build_decoder, may_be_known, to_uint8
from fedtransfer.simulations.audit.leaks import unit_rows
from fedtransfer.simulations.data.datasets import resolve_data


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Pictures in two colours; three test images and five of the demo are training images too."""
    colours = list(COLOURS.values())[:2]
    train = np.stack([np.asarray(picture(colours[i % 2], i, (32, 32))) for i in range(120)])
    demo = archive_arrays(str(resolve_data("cifar10-demo")))["x_train"][:5]
    x, test = np.concatenate([train, demo]), np.concatenate([train[:3], 255 - train[:10]])
    path = tmp_path / "images.npz"
    np.savez(path, x_train=x, y_train=np.arange(len(x)) % 2, x_test=test, y_test=np.arange(len(test)) % 2,
             class_names=np.array(["cat", "dog"]))  # fmt: skip
    return path


def test_only_public_images_are_trained_on(archive: Path) -> None:
    images, labels = public_images(read_source(archive))
    with np.load(archive) as file:
        expected = [i for i in range(3, 120) if content_key(file["x_train"][i])[0] < 200]
        np.testing.assert_array_equal(images, file["x_train"][expected])
        np.testing.assert_array_equal(labels, np.array(expected) % 2)
    assert all(may_be_known(image) for image in images)
    assert 60 < len(images) < 117


def test_the_demo_has_no_image_to_train_on() -> None:
    with pytest.raises(UserError, match="none of the 3000 images"):
        public_images(read_source(resolve_data("cifar10-demo")))


def test_images_of_other_sizes_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.zeros((2, 28, 28), np.uint8), y_train=np.arange(2))
    with pytest.raises(UserError, match="an image of 28 x 28; expected 32 x 32"):
        public_images(read_source(tmp_path / "a.npz"))


def test_what_is_saved_is_loaded(archive: Path, tmp_path: Path) -> None:
    source, backbone = read_source(archive), small_backbone(32)
    _comes_back(build_decoder(backbone.features, (8, 8, 8, 8)), backbone, source, tmp_path / "d.npz")


def _comes_back(network: Any, backbone: Backbone, source: Source, path: Path) -> None:
    """Check that a decoder is the same once it is read from its file."""
    images, labels = public_images(source)
    save_decoder(path, network, backbone, images, labels, source.classes)
    loaded = Decoder(path)
    features = unit_rows(np.random.default_rng(0).standard_normal((5, backbone.features))).astype(np.float32)
    made = to_uint8(network(features).numpy())
    assert np.abs(loaded.images(features).astype(int) - made).max() <= 2  # float16
    assert set(loaded.class_means) == {"cat", "dog"}
    np.testing.assert_array_equal(loaded.class_means["dog"], np.rint(images[labels == 1].mean(0)))


@pytest.mark.run
@pytest.mark.full
def test_a_few_steps_lower_the_loss_and_what_is_saved_is_what_was_trained(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = read_source(archive)
    images, _ = public_images(source)
    backbone = small_backbone(32)
    losses: list[float] = []
    monkeypatch.setattr("decoder_training._REPORTED", 8)
    network = train_decoder(
        images, backbone, 40, 8, lambda step, loss: losses.append(loss), widths=(16, 16, 8, 8)
    )
    assert len(losses) == 5
    assert losses[-1] < 0.8 * losses[0]
    _comes_back(network, backbone, source, tmp_path / "d.npz")
