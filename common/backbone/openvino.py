"""Features by OpenVINO on the CPU, on one thread a batch.

Measured: the same bits with one stream and with several, and at every place among any other images
of a batch. So an image's features depend on its pixels and the size of the batch alone.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from fedtransfer.common.backbone.compiled import Extractor

# The only one, as long as the process lives: each sets up a stack for signals, and unmaps it
# at its end. If two overlap, the next Ctrl-C would be handled on memory that is gone.
CORE = ov.Core()
# Of one stream. Without the precision, CPUs with bfloat16 would compute in that.
SETTINGS: dict[str, Any] = {
    "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32",
    "ENABLE_CPU_PINNING": False,
}  # fmt: skip


def _initialise() -> None:
    """Make OpenVINO's Python layer set itself up while there is one thread.

    It does that in its first calls. If two threads made them at once, one would hold Python's lock
    and wait for the other, which waits for Python's lock: for ever.
    """
    number = ov.opset13.parameter([1], np.float32)
    model = CORE.compile_model(ov.Model([ov.opset13.relu(number)], [number]), "CPU")
    model.create_infer_request().infer([np.zeros(1, np.float32)], share_inputs=True)[0].copy()


_initialise()


def extractor(network: Path, batch: int, resolution: int, precision: str, streams: int) -> Extractor:
    """Load a network (``network.xml``); return (batch, R, R, 3) float32 → (batch, d) float32.

    The function may be called from ``streams`` threads at a time, each of which has one core.
    """
    model = CORE.read_model(network)
    model.reshape([batch, resolution, resolution, 3])
    settings = {**SETTINGS, "NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams}
    if precision == "bfloat16":
        settings["INFERENCE_PRECISION_HINT"] = "bf16"
    return function_of(model, settings)


def function_of(model: Any, settings: Mapping[str, Any] = SETTINGS) -> Extractor:
    """Compile a model for the CPU; return a function of its input, for any number of threads."""
    compiled, per_thread = CORE.compile_model(model, "CPU", dict(settings)), threading.local()

    def compute(array: NDArray[np.float32]) -> NDArray[np.float32]:
        if not hasattr(per_thread, "request"):
            per_thread.request = compiled.create_infer_request()
        result = per_thread.request.infer([array], share_inputs=True)[0]
        return np.array(result, np.float32)  # the request's memory is used again

    return compute
