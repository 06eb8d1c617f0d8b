"""A real ImageNet network gives the same head from its Keras file, from ONNX, and as features."""

from pathlib import Path

import lite0
import numpy as np
import pytest

import fedtransfer as ft
from fedtransfer.client.features_export import export_features

BLOOD = lite0.SHARED / "data" / "blood"


@pytest.mark.run
@pytest.mark.full
def test_heads_are_equal_whatever_format_the_network_has(tmp_path: Path) -> None:
    if not BLOOD.is_dir():
        pytest.skip(f"the photos of blood cells are not at {BLOOD}")
    keras_file, onnx_file = lite0.write(tmp_path)

    def simulate(data: Path, name: str, **settings: str) -> ft.Run:
        return ft.simulate(
            data=data, partition="natural", rounds=20, baselines=False, models=False, out=tmp_path / name,
            **settings,
        )  # fmt: skip

    by_keras = simulate(BLOOD, "keras", backbone=keras_file)
    by_onnx = simulate(BLOOD, "onnx", backbone=onnx_file, preprocessing=lite0.PREPROCESSING)
    (features := tmp_path / "exported").mkdir()
    for site in sorted(BLOOD.iterdir()):  # a site exports its features, with the splits of the run
        export_features(site, features / f"{site.name}.parquet", by_onnx.config, splits=True)
    from_features = simulate(features, "features")
    assert by_keras.balanced_accuracy > 0.75
    for other in (by_onnx, from_features):
        for first, second in zip(by_keras.head, other.head, strict=True):
            tolerance = 1e-5 * np.abs(by_keras.head[0]).max()
            np.testing.assert_allclose(first, second, rtol=0, atol=tolerance, err_msg=other.folder.name)
