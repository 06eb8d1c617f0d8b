"""A real ImageNet network gives the same head from its Keras file and from ONNX."""

from pathlib import Path

import lite0
import numpy as np
import pytest

import fedtransfer as ft

BLOOD = lite0.SHARED / "data" / "blood"


@pytest.mark.run
@pytest.mark.full
def test_heads_are_equal_whatever_format_the_network_has(tmp_path: Path) -> None:
    if not BLOOD.is_dir():
        pytest.skip(f"the photos of blood cells are not at {BLOOD}")
    keras_file, onnx_file = lite0.write(tmp_path)
    settings = {"keras": {"backbone": keras_file}}
    settings["onnx"] = {"backbone": onnx_file, "preprocessing": lite0.PREPROCESSING}
    heads = []
    for name, backbone in settings.items():
        run = ft.simulate(
            data=BLOOD, partition="natural", rounds=20, baselines=False, models=False, out=tmp_path / name,
            **backbone,
        )  # fmt: skip
        assert run.balanced_accuracy > 0.75
        heads.append(run.head)
    for first, second in zip(*heads, strict=True):
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-5 * np.abs(heads[0][0]).max())
