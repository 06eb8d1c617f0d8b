"""TensorFlow and Keras, set up once: import them only from here.

Every operation, NumPy's products included, runs on one thread; several image batches or several
sites run at a time. So a result never depends on the number of cores.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from threadpoolctl import threadpool_limits

from fedtransfer.common.support.processes import CORES

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextmanager
def _without_native_chatter() -> Iterator[None]:
    """Suppress the output of native libraries while they load; TensorFlow's log level does not."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


with _without_native_chatter():
    import keras
    import tensorflow as tf

THREADS_PER_OPERATION = "FEDTRANSFER_THREADS_PER_OPERATION"  # 0: one a core, as in pretraining

threadpool_limits(1, "blas")
tf.config.threading.set_intra_op_parallelism_threads(int(os.environ.get(THREADS_PER_OPERATION, "1")))
tf.config.threading.set_inter_op_parallelism_threads(max(CORES, 2))

GPUS = tf.config.list_physical_devices("GPU")
_details = tf.config.experimental.get_device_details
for gpu in GPUS:
    tf.config.experimental.set_memory_growth(gpu, True)  # several processes share one


def device() -> str:
    """Return the name of the device that the backbone runs on, for people."""
    if GPUS:
        names = {_details(gpu).get("device_name", gpu.name) for gpu in GPUS}
        return f"GPU ({', '.join(sorted(names))})"
    return f"CPU ({CORES} cores)"


def why_no_bfloat16() -> str:
    """Return why bfloat16 is of no use here; "" if the GPUs or the CPU compute in it."""
    if GPUS:
        capable = {gpu.name: _details(gpu).get("compute_capability") for gpu in GPUS}
        old = {name: capability for name, capability in capable.items() if (capability or (0, 0)) < (8, 0)}
        return f"it takes GPUs of compute capability 8.0 or more, found {old}" if old else ""
    try:
        words = set(Path("/proc/cpuinfo").read_text("utf-8").split())
    except OSError:
        words = set()
    if words & {"avx512_bf16", "amx_bf16", "bf16"}:
        return ""
    return "TensorFlow sees no GPU, and this CPU has none of the instructions avx512_bf16, amx_bf16 and bf16"


__all__ = ["CORES", "GPUS", "device", "keras", "tf", "why_no_bfloat16"]
