"""The compiled copy of a network: made once, whole or not at all, checked when it is read."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from small_network import moved, pixels

from fedtransfer.common.backbone import compiled, conversion
from fedtransfer.common.backbone import public_statistics as public
from fedtransfer.common.backbone.backbone import load_backbone
from fedtransfer.common.backbone.networks import network_identity, saved_network, small_resnet
from fedtransfer.common.compute import OPENVINO, TENSORFLOW
from fedtransfer.common.config.config import BUNDLED
from fedtransfer.common.errors import UserError
from fedtransfer.common.tensorflow import keras


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Keras file, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "own.keras"
    moved(small_resnet((4, 6))).save(path)
    load_backbone.cache_clear()
    return path


def copy_in(tmp_path: Path) -> Path:
    [folder] = (tmp_path / "cache/fedtransfer/networks").iterdir()
    return folder


def forbid_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("Keras was asked")

    monkeypatch.setattr(keras.models, "load_model", refuse)
    load_backbone.cache_clear()


def test_the_bundled_copy_is_of_the_bundled_keras_file() -> None:
    copy = compiled.bundled()
    network = saved_network(copy.keras_file)
    statistics = public.statistics_file(BUNDLED)
    assert statistics
    mean = public.read_statistics(statistics, copy.features)["mean"]
    assert copy.identity == network_identity(network, mean)
    x = np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 3)).astype(np.float32)
    features = load_backbone(BUNDLED, compute=OPENVINO).extractor(4)(x)
    np.testing.assert_allclose(features, network(x, training=False), atol=1e-5)
    card = json.loads((copy.folder / compiled.CARD).read_text("utf-8"))
    for name, digest in card["files"].items():
        assert compiled._sha256(copy.folder / name) == digest


def test_keras_reads_a_file_once_only(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_backbone(str(file), resolution=16, compute=OPENVINO)
    features = first.extractor(4)(pixels(4))
    expected = keras.models.load_model(file)(pixels(4), training=False)
    np.testing.assert_allclose(features, expected, atol=1e-5)
    forbid_keras(monkeypatch)
    again = load_backbone(str(file), resolution=16, compute=OPENVINO)
    assert (again.fingerprint, again.features, again.notes) == (first.fingerprint, 6, first.notes)
    np.testing.assert_array_equal(again.extractor(4)(pixels(4)), features)


def test_another_network_in_the_same_file_is_another_copy(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_backbone(str(file), resolution=16)
    moved(small_resnet((4, 6)), seed=1).save(file)
    load_backbone.cache_clear()
    assert load_backbone(str(file), resolution=16).fingerprint != first.fingerprint


@pytest.mark.parametrize("name", [compiled.IR, compiled.WEIGHTS, compiled.KERAS, compiled.CARD])
@pytest.mark.parametrize("how", ["cut short", "a bit flipped", "gone"])
def test_a_damaged_copy_is_made_again(
    name: str, how: str, file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = load_backbone(str(file), resolution=16, compute=OPENVINO)
    features = first.extractor(4)(pixels(4))
    damaged = copy_in(tmp_path) / name
    content = bytearray(damaged.read_bytes())
    if how == "gone":
        damaged.unlink()
    else:
        content[len(content) // 2] ^= 1
        damaged.write_bytes(content[: len(content) // 2] if how == "cut short" else content)
    load_backbone.cache_clear()
    with caplog.at_level(logging.WARNING):
        again = load_backbone(str(file), resolution=16, compute=OPENVINO)
    assert "is damaged" in caplog.text
    assert "it is made again" in caplog.text
    assert again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(again.extractor(4)(pixels(4)), features)


def test_a_copy_appears_whole_or_not_at_all(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(conversion, "_write_ir", fail)
        with pytest.raises(RuntimeError, match="killed"):
            load_backbone(str(file), resolution=16)
    assert list((tmp_path / "cache/fedtransfer/networks").iterdir()) == []
    load_backbone(str(file), resolution=16)
    assert copy_in(tmp_path).name.startswith("own-")


def test_a_cache_that_cannot_be_written_is_named(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "plain"))
    with pytest.raises(UserError, match=r"compiled network .*cannot be written.*XDG_CACHE_HOME"):
        load_backbone(str(file), resolution=16)


def test_what_openvino_cannot_compute_tensorflow_does(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(network: object) -> None:
        raise RuntimeError("Check failed\nno conversion of operation Frobnicate")

    monkeypatch.setattr(conversion, "_convert", unable)
    backbone = load_backbone(str(file), resolution=16)
    assert backbone.engine == TENSORFLOW
    assert "OpenVINO cannot compute it (no conversion of operation Frobnicate)" in backbone.notes[-1]
    expected = keras.models.load_model(file)(pixels(2), training=False)
    np.testing.assert_allclose(backbone.extractor(2)(pixels(2)), expected, atol=1e-5)
    load_backbone.cache_clear()
    with pytest.raises(UserError, match=r"--compute openvino: it cannot compute own: no conversion"):
        load_backbone(str(file), resolution=16, compute=OPENVINO)


def test_a_copy_with_other_features_is_not_taken(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert, other = conversion._convert, moved(small_resnet((4, 6)), seed=1)
    monkeypatch.setattr(conversion, "_convert", lambda network: convert(other))
    backbone = load_backbone(str(file), resolution=16)
    assert backbone.engine == TENSORFLOW
    assert "differ from Keras'" in backbone.notes[-1]
