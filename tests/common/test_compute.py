import numpy as np
import pytest

from fedtransfer.common.backbone.backbone import load_backbone
from fedtransfer.common.compute import OPENVINO, TENSORFLOW, device
from fedtransfer.common.config.config import BUNDLED
from fedtransfer.common.support.processes import CORES
from fedtransfer.common.tensorflow import GPUS, tf


def test_the_device_is_named() -> None:
    assert device(OPENVINO).startswith(f"CPU ({CORES} cores, OpenVINO 20")
    assert device(TENSORFLOW).startswith("GPU (" if GPUS else f"CPU ({CORES} cores, TensorFlow ")


@pytest.mark.skipif(not GPUS, reason="TensorFlow sees no GPU here")
def test_a_gpu_gives_the_features_of_the_cpu() -> None:
    backbone = load_backbone(BUNDLED)
    pixels = np.random.default_rng(0).uniform(0, 255, (8, 64, 64, 3)).astype(np.float32)
    with tf.device("/CPU:0"):
        expected = backbone.network(pixels, training=False).numpy()
    with tf.device("/GPU:0"):
        np.testing.assert_allclose(backbone.network(pixels, training=False), expected, rtol=2e-2, atol=5e-3)
