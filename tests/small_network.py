"""Small residual networks: the bundled kind, whose BatchNorms all matter, and Keras' ResNetV2."""

from functools import cache
from typing import Any

import numpy as np
from keras.src.applications.resnet import ResNet, stack_residual_blocks_v2

from fedtransfer.common.backbone.backbone import Backbone, backbone_of_network
from fedtransfer.common.backbone.networks import small_resnet


def moved(network: Any, seed: int = 0) -> Any:
    """Draw all weights by a seed, and such BatchNorm statistics as training would give."""
    rng = np.random.default_rng(seed)
    for layer in network.layers:
        weights = layer.get_weights()
        if type(layer).__name__ == "BatchNormalization":  # gamma, beta, mean, variance
            scale, variance = (rng.uniform(0.5, 1.5, array.shape) for array in (weights[0], weights[3]))
            layer.set_weights([scale, *(rng.normal(0, 0.2, array.shape) for array in weights[1:3]), variance])
        elif weights:
            layer.set_weights(
                [rng.normal(0, np.sqrt(2 / max(1, array[..., 0].size)), array.shape) for array in weights]
            )
    network.trainable = False
    return network


def small_backbone(resolution: int = 16) -> Backbone:
    """Three stages, ``conv2`` to ``conv4``, of two blocks; eight features."""
    return backbone_of_network(
        "small", resolution, moved(small_resnet((4, 6, 8))), np.linspace(0, 1, 8, dtype=np.float32)
    )


@cache
def shared_backbone() -> Backbone:
    """Return a small backbone for tests that leave it as it is: it is built once."""
    return small_backbone()


def thin_resnet50v2(**options: Any) -> Any:
    """Stand in for ``keras.applications.ResNet50V2``: its parts and names, 1 % of its weights."""

    def stacks(x: Any) -> Any:
        for stage, width in ((2, 2), (3, 3), (4, 4)):
            x = stack_residual_blocks_v2(x, width, 2, name=f"conv{stage}")
        return stack_residual_blocks_v2(x, 5, 2, stride1=1, name="conv5")

    return ResNet(stacks, True, True, **{"name": "resnet50v2", "weights_name": "resnet50v2", **options})


def pixels(n: int, resolution: int = 16, seed: int = 0) -> np.ndarray:
    """Random images (n, R, R, 3) in 0 to 255."""
    return np.random.default_rng(seed).uniform(0, 255, (n, resolution, resolution, 3)).astype(np.float32)
