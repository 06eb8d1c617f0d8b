"""An exported model is written without Keras, and is the one that Keras would save."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.features.feature_map import FeatureMap
from fedtransfer.common.head.head import head_spec
from fedtransfer.common.head.keras_head import build_model
from fedtransfer.common.head.model import export_models, keras_model, load_model

CLASSES = ("airplane", "cat", "dog")
# What Keras writes of these plays no part in a model that has its weights.
_BOOKKEEPING = {
    "shared_object_id", "kernel_initializer", "bias_initializer", "kernel_regularizer", "bias_regularizer",
    "kernel_constraint", "bias_constraint", "quantization_config", "date_saved", "training", "mask",
    "build_config",
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "padded": {"fit": "pad", "resolution": 96},
    "stretched, not scaled": {"fit": "stretch", "normalise": False, "standardise": "none"},
    "everything in the map": {"project": "random", "dimensions": 20, "standardise": "federated"},
    "a hidden layer": {"hidden_units": 7, "dropout": 0.3, "optimizer": "adam", "learning_rate": 0.001},
    "features": {"backbone": "mine-features-12"},
}


def exported(settings: dict[str, Any], path: Path) -> tuple[Any, Any, FeatureMap]:
    """Export drawn arrays; return the model as Keras builds it, as Keras reads it, and its map."""
    config, rng = RunConfig(**settings), np.random.default_rng(0)
    backbone = configured_backbone(config)
    d = backbone.features
    offset = rng.normal(size=d).astype(np.float32)
    if config.project == "none":
        scale = matrix = None
    else:
        scale, matrix = rng.uniform(0.5, 2, d), rng.normal(size=(d, config.dimensions))
        scale, matrix = scale.astype(np.float32), matrix.astype(np.float32)
    mapped = FeatureMap(d, None if config.standardise == "none" else offset, scale, matrix, config.normalise)
    spec = head_spec(config, backbone, len(CLASSES))
    head = tuple(rng.normal(size=shape).astype(np.float32) for shape in spec.shapes)
    export_models({path: head}, backbone, mapped, spec, CLASSES)
    built, variables = build_model(backbone, mapped, spec)
    for variable, array in zip(variables, head, strict=True):
        variable.assign(array)
    return built, keras_model(path), mapped


def essence(config: Any) -> Any:
    """Return a model's configuration without bookkeeping."""
    if isinstance(config, dict):
        return {key: essence(value) for key, value in config.items() if key not in _BOOKKEEPING}
    return [essence(item) for item in config] if isinstance(config, list | tuple) else config


@pytest.mark.parametrize("name", CASES)
def test_the_file_is_what_keras_would_save(name: str, tmp_path: Path) -> None:
    built, read, _ = exported(CASES[name], tmp_path / "model.keras")
    built.save(tmp_path / "by-keras.keras")
    ours, theirs = (
        json.loads(zipfile.ZipFile(tmp_path / file).read("config.json"))
        for file in ("model.keras", "by-keras.keras")
    )
    assert essence(ours) == essence(theirs)
    for one, other in zip(read.get_weights(), built.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not read.trainable_variables


@pytest.mark.parametrize("name", CASES)
def test_it_predicts_the_same_with_keras_and_without(name: str, tmp_path: Path) -> None:
    _, read, mapped = exported(CASES[name], tmp_path / "model.keras")
    model, rng = load_model(tmp_path / "model.keras"), np.random.default_rng(1)
    assert model.classes == CLASSES
    for size in ((80, 57), (64, 64), (31, 200)):
        if model.width:
            content = rng.normal(size=mapped.features).astype(np.float32)
        else:
            content = rng.integers(0, 256, (*size, 3), np.uint8)
        expected = read(content[None].astype(np.float32), training=False).numpy()[0]
        np.testing.assert_allclose(model.predict(content), expected, atol=2e-6)
