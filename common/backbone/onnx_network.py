"""Make a compiled copy of a network in ONNX: images in RGB in, one feature vector out.

What differs from network to network is put into the graph: the order of dimensions, the scale of
pixels, and how an output becomes one vector.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from onnx import ModelProto, compose

from fedtransfer.common.backbone import compiled
from fedtransfer.common.backbone.onnx_file import (
    ImageInput,
    image_input,
    linear_below,
    read_onnx,
    require_tensor,
    scaling_inside,
)
from fedtransfer.common.backbone.onnx_graph import Nodes, add_around, digest, keep_only, save, set_ends
from fedtransfer.common.backbone.onnx_output import Reduction, Shape, add_reduction, choose, reduction_of
from fedtransfer.common.backbone.openvino import CORE, extractor
from fedtransfer.common.backbone.probe import check_features
from fedtransfer.common.backbone.resizing import RULES
from fedtransfer.common.config.settings.preprocessing import EXAMPLE, scaling
from fedtransfer.common.errors import UnknownPreprocessing, UserError

_PREFIX = "fedtransfer.network/"
_IR = 4  # the version of files from which on weights are no inputs


@dataclass(frozen=True)
class Network:
    """A network from images to features, and what a run needs to know of it."""

    model: ModelProto  # images (n, R, R, 3) float32, RGB 0 to 255 → features (n, d) float32
    features: int  # d
    fixed: int  # pixels a side of the only images that it takes, 0 for any
    alone: bool  # whether it takes one image at a time only
    notes: tuple[str, ...]

    def identity(self, mean: NDArray[np.float32] | None) -> str:
        """Return the SHA-256 of graph, weights, preprocessing and mean, in hexadecimal."""
        state = hashlib.sha256(RULES["crop"].encode())
        state.update(digest(self.model, "features").encode())
        state.update(b"" if mean is None else mean.tobytes())
        return state.hexdigest()


def read_network(path: Path, output: str, preprocessing: str, resolution: int) -> Network:
    """Read a network in ONNX.

    Args:
        path: the file.
        output: the name of an output or of an inner tensor, "" for the only output, or the only one
            that is a vector.
        preprocessing: as in the run config.
        resolution: pixels a side of images, where the file does not say.

    Raises:
        UserError: it cannot be read, or is no network from one RGB image to one feature vector.
    """
    model = read_onnx(path)
    image = image_input(model.graph, path)
    preprocessing, note = _preprocessing(model, image, path, preprocessing)
    notes = [f"{path.name}: its input is taken for (n, 3, height, width)"] * image.assumed + [note]
    if output:
        require_tensor(model, path, output)
    shapes, batch = _shapes(model, image, path, output, image.side or resolution)
    output, note = choose(shapes, path)
    reduction, width, remark = reduction_of(shapes[output], batch, image, f"{path}: output {output}")
    notes += [note, f"{path.name}: {remark}" if remark else ""]
    if reduction == "whole":
        notes.append(_class_scores(model, path, output))
    alone = batch == 1
    if alone:
        notes.append(f"{path.name}: takes one image at a time; exported for any number, it would be faster")
    _rebuild(model, image, output, preprocessing, reduction, width, alone)
    return Network(model, width, image.side, alone, tuple(note for note in notes if note))


def _preprocessing(model: ModelProto, image: ImageInput, path: Path, preprocessing: str) -> tuple[str, str]:
    """Return the preprocessing that ``auto`` stands for, and a note on it."""
    if preprocessing != "auto":
        return preprocessing, ""
    scaled = scaling_inside(model.graph, image.name)
    if scaled or not image.first:
        why = "it scales pixels itself" if scaled else "it takes (n, h, w, 3), as TensorFlow's networks do"
        raise UnknownPreprocessing(
            f"--backbone {path}: {why}, so the file does not tell which pixels it expects; say it: "
            "--preprocessing none (0 to 255), tf, torch or caffe, or numbers of its own, as in "
            f'{EXAMPLE} ("mean=0 std=1" for 0 to 1)'
        )
    return "torch", (
        f"{path.name}: preprocessing torch (ImageNet's mean and deviation), as most networks of PyTorch and "
        "timm expect; if this one has others, give them with --preprocessing"
    )


def _class_scores(model: ModelProto, path: Path, output: str) -> str:
    """Return a note if a vector may hold class scores. Raises UserError: it holds probabilities."""
    below, softmax = linear_below(model.graph, output)
    remedy = f"--backbone {path}#{below}" if below else f"--backbone {path}#NAME"
    if softmax:
        raise UserError(
            f"--backbone {path}: output {output} holds probabilities of classes, which tell less of an image "
            f"than features do; name the tensor below the classifier: {remedy}"
        )
    if not below:
        return ""
    return (
        f"{path.name}: features are the output of a linear layer; if these are scores of classes, take "
        f"the tensor below it: {remedy}"
    )


def _shapes(
    model: ModelProto, image: ImageInput, path: Path, output: str, side: int
) -> tuple[dict[str, Shape | None], int]:
    """Return output → its shape, None for one that is not fixed; and the number of images: 2 or 1.

    A network of a fixed number of images is tried with two, since few depend on it.
    """
    outputs, reason = [each.name for each in model.graph.output], ""
    for batch in (2, 1):
        try:
            network = CORE.read_model(path)
            if output and output not in outputs:
                network.add_outputs(output)
            network.reshape([batch, 3, side, side] if image.first else [batch, side, side, 3])
            names = [output] if output else outputs
            shapes = {name: _fixed(network.output(name)) for name in names}
        except RuntimeError as error:
            reason = reason or _reason(error)
        else:
            if batch == 1 or all(shape is None or shape[:1] == (batch,) for shape in shapes.values()):
                return shapes, batch
    raise UserError(f"--backbone {path}: OpenVINO cannot compute it at {side} x {side} pixels: {reason}")


def _fixed(output: Any) -> Shape | None:
    shape = output.get_partial_shape()
    return tuple(shape.to_shape()) if shape.is_static else None


def _reason(error: RuntimeError) -> str:
    """Return the telling line of an error of OpenVINO, which names places in its source too."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (telling or lines or ["no reason given"])[-1]


def _rebuild(
    model: ModelProto, image: ImageInput, output: str, preprocessing: str, reduction: Reduction, width: int,
    alone: bool,
) -> None:  # fmt: skip
    """Turn a model in place into one from ``pixels`` (n, R, R, 3) to ``features`` (n, d)."""
    graph = compose.add_prefix_graph(model.graph, _PREFIX, inplace=True)  # so that no name is one of ours
    before, after = Nodes("fedtransfer.before/"), Nodes("fedtransfer.after/")
    _add_preprocessing(before, image, preprocessing)
    keep_only(graph, _PREFIX + output)
    add_reduction(after, _PREFIX + output, reduction)
    add_around(graph, before, after)
    sides: list[Any] = [1 if alone else "n", image.side or "height", image.side or "width", 3]
    del model.metadata_props[:], graph.metadata_props[:]
    model.doc_string = graph.doc_string = ""
    set_ends(model, "pixels", sides, "features", [sides[0], width])
    model.ir_version = max(model.ir_version, _IR)


def _add_preprocessing(nodes: Nodes, image: ImageInput, preprocessing: str) -> None:
    pixels, numbers = "pixels", scaling(preprocessing)
    if numbers:
        if numbers.bgr:
            pixels = nodes.add("Gather", pixels, nodes.constant([2, 1, 0], np.int64), axis=3)
        pixels = nodes.add("Mul", pixels, nodes.constant(numbers.scale))
        pixels = nodes.add("Add", pixels, nodes.constant(numbers.offset))
    if image.first:
        pixels = nodes.add("Transpose", pixels, perm=[0, 3, 1, 2])
    nodes.add("Cast", pixels, output=_PREFIX + image.name, to=image.kind)


def write_network(
    network: Network, name: str, resolution: int, identity: str, folder: Path
) -> Mapping[str, Any]:
    """Write a network for OpenVINO and in ONNX into a folder; return its card.

    Raises:
        UserError: it fails on images, or its features are of no use.
    """
    save(network.model, file := folder / compiled.ONNX)
    ov.save_model(CORE.read_model(file), folder / compiled.IR, compress_to_fp16=False)

    def compute(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        one = extractor(folder / compiled.IR, 1, resolution, "float32", 1)
        return np.concatenate([one(image[None]) for image in pixels])

    check_features(compute, name, resolution)
    return {
        "identity": identity, "features": network.features, "fixed": network.fixed, "notes": network.notes,
        "refusal": "", "alone": network.alone,
    }  # fmt: skip
