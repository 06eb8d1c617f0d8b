"""Convert a Keras model to ONNX, by tf2onnx, which is the extra ``onnx``."""

from typing import Any

from onnx import ModelProto

from fedtransfer.common.backbone.conversion import frozen_graph
from fedtransfer.common.backbone.onnx_graph import Nodes, add_around, set_ends
from fedtransfer.common.errors import UserError
from fedtransfer.common.tensorflow import keras, without_native_chatter

_OPSET = 18


def resized_to_probabilities(model: Any) -> ModelProto:
    """Convert an exported Keras model (images in, probabilities out) without its resizing layer.

    The result goes from ``pixels`` (n, R, R, 3) float32 to ``probabilities`` (n, C).

    Raises:
        UserError: tf2onnx cannot convert one of the layers.
    """
    from tf2onnx.convert import from_graph_def

    body = keras.Model(model.get_layer("resize").output, model.output)
    graph = frozen_graph(body)
    inputs, outputs = [each.name for each in graph.inputs], [each.name for each in graph.outputs]
    try:
        with without_native_chatter():
            converted, _ = from_graph_def(
                graph.graph.as_graph_def(), input_names=inputs, output_names=outputs, opset=_OPSET
            )
    except Exception as error:  # whatever a layer that it does not know leads to
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"model.onnx: tf2onnx cannot convert this Keras network: {reason}") from None
    before, after = Nodes("fedtransfer.keras/before/"), Nodes("fedtransfer.keras/after/")
    before.add("Identity", "pixels", output=inputs[0])
    after.add("Identity", outputs[0], output="probabilities")
    add_around(converted.graph, before, after)
    sides = [each or "n" for each in body.input_shape]
    set_ends(converted, "pixels", sides, "probabilities", ["n", model.output_shape[-1]])
    return converted
