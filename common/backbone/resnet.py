"""The small pre-activation ResNet (V2; He et al. 2016, arXiv 1603.05027) of the bundled weights."""

from typing import Any

from fedtransfer.common.compute import keras

FILTERS = (32, 64, 128, 256)


def small_resnet(filters: tuple[int, ...] = FILTERS, blocks: int = 2) -> Any:
    """Build the network: images (n, H, W, 3) float32, RGB 0 to 255 → features (n, ``filters[-1]``).

    A 3 × 3 stem of stride 2; one stage of basic blocks for each entry of ``filters``, each of which
    but the first halves the size; a last BatchNorm and ReLU; global average pooling. The defaults
    give 2.8 million parameters.
    """
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1, name="preprocess")(image)
    x = _conv(x, filters[0], 3, 2, "conv1_conv")
    for stage, width in enumerate(filters, 2):
        for block in range(1, blocks + 1):
            x = _block(x, width, 2 if block == 1 and stage > 2 else 1, f"conv{stage}_block{block}")
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(_bn_relu(x, "post_bn", "post_relu"))
    return keras.Model(
        image, keras.layers.Activation("linear", dtype="float32", name="features")(x), name="small_resnet_v2"
    )


def _block(x: Any, width: int, stride: int, name: str) -> Any:
    before = _bn_relu(x, f"{name}_preact_bn", f"{name}_preact_relu")
    shortcut = x if stride == 1 and x.shape[-1] == width else _conv(before, width, 1, stride, f"{name}_0_conv")
    inner = _bn_relu(_conv(before, width, 3, stride, f"{name}_1_conv"), f"{name}_2_bn", f"{name}_2_relu")
    return keras.layers.Add(name=f"{name}_add")([shortcut, _conv(inner, width, 3, 1, f"{name}_2_conv")])


def _conv(x: Any, filters: int, size: int, stride: int, name: str) -> Any:
    layer = keras.layers.Conv2D(
        filters, size, stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )
    return layer(x)


def _bn_relu(x: Any, bn: str, relu: str) -> Any:
    return keras.layers.ReLU(name=relu)(keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=bn)(x))
