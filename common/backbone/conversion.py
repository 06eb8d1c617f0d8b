"""Convert a Keras network to OpenVINO, and write its compiled copy."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from fedtransfer.common.backbone import compiled
from fedtransfer.common.backbone.networks import network_identity
from fedtransfer.common.backbone.openvino import CORE, extractor
from fedtransfer.common.backbone.probe import probe
from fedtransfer.common.tensorflow import tf, without_native_chatter

# The largest difference from Keras' features that rounding explains, as a share of the largest.
TOLERANCE = 1e-4


def write_network(
    network: Any, resolution: int, identity: str, notes: tuple[str, ...], folder: Path
) -> Mapping[str, Any]:
    """Write a Keras network for OpenVINO and for Keras into a folder; return its card.

    If OpenVINO cannot compute it, the card says why, and TensorFlow will.
    """
    network.save(folder / compiled.KERAS)
    refusal = _write_ir(network, resolution, folder)
    return {
        "identity": identity, "features": int(network.output_shape[-1]),
        "fixed": network.input_shape[1] or 0, "notes": notes, "refusal": refusal,
    }  # fmt: skip


def _write_ir(network: Any, resolution: int, folder: Path) -> str:
    """Write OpenVINO's files; return "", or why it cannot compute the network."""
    try:
        ov.save_model(_convert(network), folder / compiled.IR, compress_to_fp16=False)
        pixels = probe(resolution)
        features = extractor(folder / compiled.IR, len(pixels), resolution, "float32", 1)(pixels)
    except Exception as error:  # OpenVINO raises RuntimeError for whatever it cannot read or compile
        why = str(error).strip().splitlines()[-1]
    else:
        expected = network(pixels, training=False).numpy()
        worst = np.abs(features - expected).max() / np.abs(expected).max()
        if worst <= TOLERANCE:
            return ""
        why = f"its features differ from Keras' by {worst:.1g} of the largest"
    for file in (compiled.IR, compiled.WEIGHTS):
        (folder / file).unlink(missing_ok=True)
    return why


def frozen_graph(network: Any) -> Any:
    """Trace a Keras network in inference mode, and make its variables constants."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    image = tf.TensorSpec((None, *network.input_shape[1:]), tf.float32, name="image")
    traced = tf.function(
        lambda image: tf.cast(network(image, training=False), tf.float32), [image], autograph=False
    )
    with without_native_chatter():
        return convert_variables_to_constants_v2(traced.get_concrete_function())


def _convert(network: Any) -> Any:
    """Return OpenVINO's model of a Keras network, by way of TensorFlow's frozen graph."""
    frozen = frozen_graph(network)
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "network.pb"
        graph.write_bytes(frozen.graph.as_graph_def().SerializeToString())
        return CORE.read_model(graph)


__all__ = ["network_identity", "write_network"]
