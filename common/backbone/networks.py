"""Load a frozen network with Keras: one of keras.applications, or a model file.

The result is always one Keras model from images (n, H, W, 3) float32, RGB 0 to 255, to features (n,
d).
"""

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.backbone.probe import check_features
from fedtransfer.common.backbone.resizing import RULES
from fedtransfer.common.backbone.weights import imagenet_weights, load_weights
from fedtransfer.common.config.config import KERAS_BACKBONES
from fedtransfer.common.config.settings.preprocessing import scaling
from fedtransfer.common.errors import UserError
from fedtransfer.common.tensorflow import keras, tf

_POOLING = ("GlobalAveragePooling2D", "GlobalMaxPooling2D")
_CLASSIFIER = ("Dense", "Softmax")
# What decides what a layer computes, of its configuration; names and Keras' bookkeeping do not.
_ARCHITECTURE_KEYS = (
    "filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "activation", "use_bias",
    "axis", "epsilon", "pool_size", "units", "scale", "offset", "keepdims",
)  # fmt: skip


def saved_network(file: Path) -> Any:
    """Load the Keras file of a compiled copy, whose network is not trained."""
    network = keras.models.load_model(file, compile=False)
    network.trainable = False
    return network


def network_identity(network: Any, mean: NDArray[np.float32] | None) -> str:
    """Return the SHA-256 of architecture, weights, preprocessing and mean, in hexadecimal."""
    state = hashlib.sha256(RULES["crop"].encode())
    state.update(json.dumps(network_architecture(network), sort_keys=True).encode())
    for weight in network.get_weights():
        state.update(f"{weight.dtype.str}{weight.shape}".encode())
        state.update(np.ascontiguousarray(weight).tobytes())
    state.update(b"" if mean is None else mean.tobytes())
    return state.hexdigest()


def network_architecture(network: Any) -> list[Any]:
    """Describe a functional model by its layers' computations and connections, without names."""
    position = {layer.name: index for index, layer in enumerate(network.layers)}
    layers = []
    for layer in network.layers:
        parents = [parent.operation.name for node in layer._inbound_nodes[:1] for parent in node.parent_nodes]
        config = {key: value for key, value in layer.get_config().items() if key in _ARCHITECTURE_KEYS}
        layers.append([type(layer).__name__, [position[name] for name in parents], config])
    return layers


def extractor(network: Any, batch: int, resolution: int, precision: str) -> Any:
    """Compile a network: (batch, R, R, 3) float32 → (batch, d) float32."""
    network = in_bfloat16(network) if precision == "bfloat16" else network
    compiled = tf.function(
        lambda x: tf.cast(network(x, training=False), tf.float32),
        [tf.TensorSpec((batch, resolution, resolution, 3))],
        autograph=False,
    )
    return lambda pixels: compiled(pixels).numpy()


def read_network(name: str, weights: str, preprocessing: str) -> tuple[Any, tuple[str, ...]]:
    """Read a network of keras.applications or of a model file; return it, and notes on changes.

    Raises:
        UserError: see ``keras_network`` and ``network_from_file``.
    """
    if name in KERAS_BACKBONES:
        network, notes = keras_network(name, weights, preprocessing), tuple[str, ...]()
    else:
        network, notes = network_from_file(Path(name).expanduser(), preprocessing)
    network.trainable = False
    return network, notes


def keras_network(name: str, weights: str, preprocessing: str) -> Any:
    """Build an architecture of keras.applications, with ImageNet weights or those of a file.

    Raises:
        UserError: the weights are missing, cannot be downloaded or do not fit.
    """
    image = keras.Input((None, None, 3), name="image")
    build = getattr(keras.applications, KERAS_BACKBONES[name])
    scaled = preprocess(image, "tf" if preprocessing == "auto" else preprocessing)
    network = keras.Model(
        image, build(include_top=False, weights=None, input_tensor=scaled, pooling="avg").output, name=name
    )
    load_weights(network, Path(weights).expanduser() if weights else imagenet_weights(name))
    return network


def network_from_file(path: Path, preprocessing: str) -> tuple[Any, tuple[str, ...]]:
    """Load a model file (.keras or .h5) up to its features; return it, and notes on changes.

    A classification top is cut off at the last pooling layer.

    Raises:
        UserError: the file cannot be loaded, or holds no network from one RGB image to one pooled
            feature vector.
    """
    if not path.is_file():
        raise UserError(
            f"--backbone {path}: no such file; expected a Keras model file (.keras or .h5), or a name"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = keras.models.load_model(path, compile=False)
    except Exception as error:
        raise UserError(
            f"--backbone {path}: Keras cannot load it: {str(error).splitlines()[0]}\n"
            "A file of weights only needs its architecture: --backbone NAME --weights FILE"
        ) from None
    _check_ends(model, path)
    pools = [layer for layer in model.layers if type(layer).__name__ in _POOLING]
    if not pools:
        raise UserError(
            f"--backbone {path}: it has no global pooling layer "
            f"(its last layers: {_names(model.layers[-3:])}); expected one, "
            "so that an image has one feature vector"
        )
    notes = []
    top = model.layers[model.layers.index(pools[-1]) + 1 :]
    output = model.output
    if any(type(layer).__name__ in _CLASSIFIER for layer in top):
        output = pools[-1].output
        notes.append(
            f"{path.name}: cut at {pools[-1].name}; the classification top ({_names(top)}) is left out"
        )
    if preprocessing == "auto":
        layers = _preprocessing_layers(model)
        preprocessing = "none" if layers else "tf"
        whose = f"is its own ({_names(layers)})" if layers else "tf (to [-1, 1])"
        notes.append(f"{path.name}: preprocessing {whose}")
    body = keras.Model(model.input, output)
    image = keras.Input(model.input_shape[1:], name="image")
    features = keras.layers.Flatten(name="features")(body(preprocess(image, preprocessing)))
    return keras.Model(image, features), tuple(notes)


def preprocess(image: Any, preprocessing: str) -> Any:
    """Scale an image tensor, RGB of 0 to 255, as ``--preprocessing`` says (but ``auto``)."""
    numbers = scaling(preprocessing)
    if numbers is None:
        return image
    if not numbers.bgr:
        scale, offset = list(numbers.scale), list(numbers.offset)
        one_for_all = preprocessing == "tf"
        return keras.layers.Rescaling(
            scale[0] if one_for_all else scale, offset[0] if one_for_all else offset, name="preprocess"
        )(image)
    # By a fixed 1 × 1 convolution: no layer of Keras swaps channels.
    swap = keras.layers.Conv2D(3, 1, name="preprocess", dtype="float32")
    swapped = swap(image)
    kernel = np.diag(np.array(numbers.scale, np.float32))[::-1]
    swap.set_weights([kernel[None, None], np.array(numbers.offset, np.float32)])
    return swapped


def check_network(network: Any, name: str, resolution: int) -> None:
    """Check that weights and features are finite, and features differ; a UserError says why not."""
    for layer in network.layers:
        if not all(np.isfinite(weight).all() for weight in layer.get_weights()):
            raise UserError(
                f"backbone {name}: layer {layer.name} has weights that are NaN or infinite; "
                "the file is damaged"
            )
    check_features(lambda pixels: network(pixels, training=False).numpy(), name, resolution)


def _names(layers: list[Any]) -> str:
    return ", ".join(f"{layer.name} ({type(layer).__name__})" for layer in layers[:6])


def _check_ends(model: Any, path: Path) -> None:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UserError(
            f"--backbone {path}: it has {len(model.inputs)} inputs and {len(model.outputs)} outputs; "
            "expected one image and one output"
        )
    shape = tuple(model.inputs[0].shape)
    if len(shape) != 4 or shape[3] != 3:
        raise UserError(
            f"--backbone {path}: its input has shape {shape}; expected RGB images (n, height, width, 3)"
        )
    if shape[1] != shape[2]:
        raise UserError(f"--backbone {path}: its input has shape {shape}; expected square images")


def _preprocessing_layers(model: Any) -> list[Any]:
    """Return the layers, other than padding, before the first convolution."""
    layers = []
    for layer in model.layers:
        if "Conv" in type(layer).__name__:
            break
        if type(layer).__name__ not in ("InputLayer", "ZeroPadding2D"):
            layers.append(layer)
    return layers


def in_bfloat16(network: Any) -> Any:
    """Copy a network for bfloat16; weights, input scaling and the pooling on stay float32."""

    def copy(layer: Any) -> Any:
        config = layer.get_config()
        vector = len(getattr(getattr(layer, "output", None), "shape", ())) == 2
        if not vector and not isinstance(layer, keras.layers.Rescaling):
            config["dtype"] = "mixed_bfloat16"
        return type(layer).from_config(config)

    clone = keras.models.clone_model(network, clone_function=copy, recursive=True)
    clone.set_weights(network.get_weights())
    return clone


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
    shortcut = (
        x if stride == 1 and x.shape[-1] == width else _conv(before, width, 1, stride, f"{name}_0_conv")
    )
    inner = _bn_relu(_conv(before, width, 3, stride, f"{name}_1_conv"), f"{name}_2_bn", f"{name}_2_relu")
    return keras.layers.Add(name=f"{name}_add")([shortcut, _conv(inner, width, 3, 1, f"{name}_2_conv")])


def _conv(x: Any, filters: int, size: int, stride: int, name: str) -> Any:
    layer = keras.layers.Conv2D(
        filters, size, stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )
    return layer(x)


def _bn_relu(x: Any, bn: str, relu: str) -> Any:
    normal = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=bn)(x)
    return keras.layers.ReLU(name=relu)(normal)
