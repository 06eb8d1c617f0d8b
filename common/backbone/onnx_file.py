"""Read a file of a network in ONNX, and find out what its image and its outputs are like."""

from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    external_data_helper,
    inliner,
)

from fedtransfer.common.backbone.onnx_graph import uses
from fedtransfer.common.errors import UserError

_FLOATS = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.DOUBLE: "float64"}
_SCALING = ("Sub", "Add", "Mul", "Div", "BatchNormalization", "InstanceNormalization")
_PASSING = ("Transpose", "Cast", "Identity", "Pad", "Resize", "Reshape", "Gather", "Slice", "Concat", "Split")


@dataclass(frozen=True)
class ImageInput:
    """The input of a network."""

    name: str
    first: bool  # whether channels stand before rows and columns: NCHW, else NHWC
    batch: int  # 0 for any number of images
    side: int  # pixels a side, 0 for any
    kind: int  # the element type, a ``TensorProto.DataType``
    assumed: bool = False  # whether the order of dimensions is not in the file


def read_onnx(path: Path) -> ModelProto:
    """Read a network with its weights, wherever they are.

    Raises:
        UserError: the file is missing, damaged or no ONNX, or weights next to it are.
    """
    if not path.is_file():
        raise UserError(f"--backbone {path}: no such file; expected a network in ONNX")
    try:
        model = _parse(path)
        if not model.graph.node or not model.opset_import:
            raise ValueError("there is no network in it")
    except (DecodeError, ValueError) as error:
        raise UserError(
            f"--backbone {path}: no network in ONNX, or a damaged one ({_first_line(error)}); export it again"
        ) from None
    for file in _weight_files(path, model):
        if not file.is_file():
            raise UserError(
                f"--backbone {path}: its weights are in {file.name}, which is not in {file.parent}; "
                "put both files into one folder"
            )
    try:
        onnx.checker.check_model(path)
        if model.functions:
            model = inliner.inline_local_functions(model)
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # the checker, and weights that are cut short, have errors of several kinds
        raise UserError(
            f"--backbone {path}: ONNX refuses it: {_first_line(error)}\nIf the file is whole, export it again"
        ) from None
    return model


def files_of(path: Path) -> list[Path]:
    """Return the files of a network: its own, and those of its weights next to it."""
    try:
        return [path, *_weight_files(path, _parse(path))]
    except (OSError, DecodeError, ValueError, UserError):
        return [path]  # ``read_onnx`` says what is wrong with it


def _parse(path: Path) -> ModelProto:
    return onnx.load(path, load_external_data=False)


def _weight_files(path: Path, model: ModelProto) -> list[Path]:
    tensors = external_data_helper._get_all_tensors(model)
    names = {
        external_data_helper.ExternalDataInfo(tensor).location
        for tensor in tensors
        if external_data_helper.uses_external_data(tensor)
    }
    if outside := sorted(name for name in names if Path(name).is_absolute() or ".." in Path(name).parts):
        raise UserError(f"--backbone {path}: its weights are in {outside[0]}; expected a file next to it")
    return [path.parent / name for name in sorted(names)]


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def image_input(graph: GraphProto, path: Path) -> ImageInput:
    """Describe the one input of a network. Raises UserError: it is no RGB image, or not alone."""
    constants = {each.name for each in graph.initializer}
    inputs = [each for each in graph.input if each.name not in constants]
    if len(inputs) != 1:
        listed = ", ".join(map(_described, inputs)) or "none"
        raise UserError(f"--backbone {path}: it has {len(inputs)} inputs: {listed}; expected one image")
    [image] = inputs
    kind, shape = image.type.tensor_type.elem_type, _shape(image)
    refusal = f"--backbone {path}: its input is {_described(image)}; "
    if kind not in _FLOATS:
        raise UserError(f"{refusal}expected real numbers, such as float32")
    channels = [at for at in (1, 3) if len(shape) == 4 and shape[at] == 3]
    assumed = len(shape) == 4 and shape[1] == shape[3] == 0
    if not channels and not assumed:
        raise UserError(f"{refusal}expected RGB images, (n, 3, height, width) or (n, height, width, 3)")
    first = assumed or channels[0] == 1
    height, width = shape[2:] if first else shape[1:3]
    if height != width and height and width:
        raise UserError(f"{refusal}expected square images")
    return ImageInput(image.name, first, shape[0], height or width, kind, assumed)


def _shape(value: ValueInfoProto) -> tuple[int, ...]:
    """Return the sides of a tensor; 0 for those that are not fixed."""
    return tuple(side.dim_value for side in value.type.tensor_type.shape.dim)


def _described(value: ValueInfoProto) -> str:
    kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    sides = ", ".join(
        str(side.dim_value or side.dim_param or "?") for side in value.type.tensor_type.shape.dim
    )
    return f"{value.name} ({kind} {sides})"


def scaling_inside(graph: GraphProto, image: str) -> list[NodeProto]:
    """Return the nodes that scale or shift the image before anything else is computed from it."""
    reached, scaling = {image}, []
    for node in graph.node:
        if not reached & uses(node) or node.op_type not in (*_SCALING, *_PASSING):
            continue
        reached |= set(node.output)
        if node.op_type in _SCALING:
            scaling.append(node)
    return scaling


def linear_below(graph: GraphProto, output: str) -> tuple[str, bool]:
    """Find the linear layer that gives a vector, and the softmax above it.

    Returns:
        The layer's input, "" if no linear layer gives the vector; whether there is a softmax.
    """
    nodes = {name: node for node in graph.node for name in node.output}
    constants, softmax = {each.name for each in graph.initializer}, False
    while (node := nodes.get(output)) and node.op_type in ("Softmax", "Add", "Identity", "Cast"):
        softmax |= node.op_type == "Softmax"
        output = next((name for name in node.input if name not in constants), "")
    return (node.input[0] if node and node.op_type in ("Gemm", "MatMul") else ""), softmax


def require_tensor(model: ModelProto, path: Path, name: str) -> None:
    """Raise UserError: no node computes a tensor of this name."""
    if name not in {output for node in model.graph.node for output in node.output}:
        outputs = ", ".join(each.name for each in model.graph.output)
        raise UserError(
            f"--backbone {path}#{name}: the network has no output and no inner tensor of this name; "
            f"its outputs are {outputs}"
        )
