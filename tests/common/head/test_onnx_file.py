"""An exported model in ONNX gives what a run's classifier does, by onnxruntime and by OpenVINO."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from small_onnx import network, saved

from fedtransfer.common.backbone.backbone import Backbone, backbone_of_network, configured_backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.feature_map import FeatureMap
from fedtransfer.common.head import model as models
from fedtransfer.common.head.head import Arrays, head_spec
from fedtransfer.common.head.model import export_models, load_model

CLASSES = ("aéro", "cat", "dog")
SHAPES = ((32, 32), (50, 80), (81, 50), (7, 9), (301, 200), (1, 1), (33, 32))
CASES: dict[str, dict[str, Any]] = {
    "cropped": {},
    "padded": {"fit": "pad", "hidden_units": 5, "optimizer": "adam", "learning_rate": 0.001},
    "stretched, not scaled": {"fit": "stretch", "normalise": False},
    "projected": {"project": "random", "dimensions": 4, "standardise": "federated"},
}  # fmt: skip


def drawn(config: RunConfig, backbone: Backbone) -> tuple[FeatureMap, Arrays]:
    """Return a feature map of a run's steps, and a head, of drawn numbers."""
    rng, d = np.random.default_rng(0), backbone.features
    offset, scale = rng.normal(size=d).astype(np.float32), rng.uniform(0.5, 2, d).astype(np.float32)
    projects = config.project != "none"
    matrix = rng.normal(size=(d, config.dimensions)).astype(np.float32) if projects else None
    mapped = FeatureMap(d, offset, scale if projects else None, matrix, config.normalise)
    spec = head_spec(config, backbone, len(CLASSES))
    return mapped, tuple(rng.normal(size=shape).astype(np.float32) for shape in spec.shapes)


def export(config: RunConfig, path: Path) -> models._Parts:
    """Export a drawn model; return what computes the same from its parts."""
    backbone = configured_backbone(config)
    mapped, head = drawn(config, backbone)
    export_models({path: head}, backbone, mapped, head_spec(config, backbone, len(CLASSES)), CLASSES)
    return models._Parts.load(backbone, mapped, head)


def by_onnxruntime(file: Path, image: NDArray[Any]) -> Any:
    session = onnxruntime.InferenceSession(file)
    return session.run(["probabilities"], {session.get_inputs()[0].name: image[None].astype(np.float32)})[0][
        0
    ]


@pytest.mark.parametrize("case", CASES)
def test_images_of_any_size_have_the_probabilities_of_the_run(tmp_path: Path, case: str) -> None:
    file, rng = saved(network(), tmp_path / "net.onnx"), np.random.default_rng(1)
    parts = export(
        RunConfig(backbone=file, preprocessing="torch", resolution=32, **CASES[case]),
        path := tmp_path / "model.onnx",
    )
    model = load_model(path)
    assert (model.classes, model.width) == (CLASSES, 0)
    for shape in SHAPES:
        image = rng.integers(0, 256, (*shape, 3), np.uint8)
        expected = parts(image)
        np.testing.assert_allclose(by_onnxruntime(path, image), expected, atol=1e-5)
        np.testing.assert_allclose(model.predict(image), expected, atol=1e-5)
    session = onnxruntime.InferenceSession(path)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == [*CLASSES]
    assert json.loads(metadata["fedtransfer"])["fingerprint"] == parts.backbone.fingerprint
    many = rng.integers(0, 256, (5, 40, 60, 3)).astype(np.float32)
    [rows] = session.run(None, {"image": many})
    np.testing.assert_allclose(rows, [by_onnxruntime(path, image) for image in many], atol=1e-6)


def test_operators_too_old_to_resize_get_resized_images(tmp_path: Path) -> None:
    file, path = saved(network(opset=9), tmp_path / "net.onnx"), tmp_path / "model.onnx"
    parts = export(RunConfig(backbone=file, preprocessing="torch", resolution=32), path)
    image = np.random.default_rng(1).integers(0, 256, (50, 80, 3), np.uint8)
    [pixels] = onnxruntime.InferenceSession(path).get_inputs()
    assert (pixels.name, pixels.shape) == ("pixels", ["n", 32, 32, 3])
    np.testing.assert_allclose(load_model(path).predict(image), parts(image), atol=1e-5)
    resized = parts.backbone.resize(image[None])[0]
    np.testing.assert_allclose(by_onnxruntime(path, resized), parts(image), atol=1e-5)


def test_ready_made_features_have_a_model_too(tmp_path: Path) -> None:
    parts = export(RunConfig(backbone="mine-features-7", export="onnx"), path := tmp_path / "model.onnx")
    features = np.random.default_rng(1).normal(size=7).astype(np.float32)
    model = load_model(path)
    assert model.width == 7
    np.testing.assert_allclose(model.predict(features), parts(features), atol=1e-6)
    np.testing.assert_allclose(by_onnxruntime(path, features), parts(features), atol=1e-6)


def test_large_weights_are_in_a_file_next_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, path = saved(network(), tmp_path / "net.onnx"), tmp_path / "model.onnx"
    config = RunConfig(backbone=file, preprocessing="torch", resolution=32)
    image = np.random.default_rng(1).integers(0, 256, (50, 80, 3), np.uint8)
    export(config, path)
    expected = load_model(path).predict(image)
    monkeypatch.setattr("fedtransfer.common.backbone.onnx_graph.LARGE", 100)
    for _ in range(2):  # the second replaces both files
        export(config, path)
        size = (tmp_path / "model.onnx.data").stat().st_size
        assert 1_000 < size < 20_000
        np.testing.assert_array_equal(load_model(path).predict(image), expected)
        np.testing.assert_allclose(by_onnxruntime(path, image), expected, atol=1e-5)
    assert sorted(each.name for each in tmp_path.glob("model*")) == ["model.onnx", "model.onnx.data"]


def test_a_file_that_is_no_such_model_is_refused(tmp_path: Path) -> None:
    other = Path(saved(network(), tmp_path / "other.onnx"))
    with pytest.raises(UserError, match=r"other.onnx: not a model that fedtransfer exported, or damaged"):
        load_model(other)
    other.write_bytes(other.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"other.onnx: not a model that fedtransfer exported, or damaged"):
        load_model(other)
    with pytest.raises(UserError, match=r"gone.onnx: no such file"):
        load_model(tmp_path / "gone.onnx")


def test_a_keras_network_needs_the_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"export onnx: .*tf2onnx is not installed; pip install 'fedtransfer"):
        models.refuse_without_converter(RunConfig(export="onnx"))
    for fine in ({}, {"backbone": "net.onnx"}, {"backbone": "features-3", "export": "onnx"}):
        models.refuse_without_converter(RunConfig(**fine))


@pytest.mark.run
@pytest.mark.parametrize("layer", ["head", pytest.param("conv3", marks=pytest.mark.full)])
def test_a_keras_network_is_converted(tmp_path: Path, layer: str) -> None:
    from small_network import moved

    from fedtransfer.common.backbone.networks import small_resnet
    from fedtransfer.common.head.keras_head import build_model

    backbone = backbone_of_network("small", 32, moved(small_resnet((4, 6))))
    config = RunConfig(trainable=layer, standardise="none", resolution=32)
    spec, rng = head_spec(config, backbone, len(CLASSES), layer), np.random.default_rng(0)
    head = tuple(rng.normal(0, 0.5, shape).astype(np.float32) for shape in spec.shapes)
    mapped = FeatureMap(backbone.features)
    export_models({(path := tmp_path / "model.onnx"): head}, backbone, mapped, spec, CLASSES, layer)
    keras_model, variables = build_model(backbone, mapped, spec, layer)
    for variable, array in zip(variables, head, strict=True):
        variable.assign(array)
    for shape in SHAPES[:4]:
        image = rng.integers(0, 256, (*shape, 3), np.uint8)
        expected = keras_model(image[None].astype(np.float32), training=False)[0].numpy()
        np.testing.assert_allclose(by_onnxruntime(path, image), expected, atol=1e-5)
        np.testing.assert_allclose(load_model(path).predict(image), expected, atol=1e-5)
