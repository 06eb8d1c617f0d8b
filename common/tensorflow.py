"""TensorFlow and Keras, set up once: import them only from here, and only where needed.

Importing them takes seconds and half a gigabyte. They serve GPUs, gradients through convolutions,
heads that Keras trains, and the first reading of a Keras file.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from fedtransfer.common.support.processes import CORES

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextmanager
def without_native_chatter() -> Iterator[None]:
    """Suppress what native libraries print; TensorFlow's log level does not."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


with without_native_chatter():
    import keras
    import tensorflow as tf

THREADS_PER_OPERATION = "FEDTRANSFER_THREADS_PER_OPERATION"  # 0: one a core, as in pretraining

tf.config.threading.set_intra_op_parallelism_threads(int(os.environ.get(THREADS_PER_OPERATION, "1")))
tf.config.threading.set_inter_op_parallelism_threads(max(CORES, 2))

GPUS = tf.config.list_physical_devices("GPU")
for gpu in GPUS:
    tf.config.experimental.set_memory_growth(gpu, True)  # several processes share one


def gpu_names() -> str:
    """Return the names of the GPUs that TensorFlow sees, for people."""
    details = tf.config.experimental.get_device_details
    return ", ".join(sorted({details(gpu).get("device_name", gpu.name) for gpu in GPUS}))


def gpus_without_bfloat16() -> dict[str, object]:
    """Return GPU → its compute capability, for those below 8.0."""
    details = tf.config.experimental.get_device_details
    capable = {gpu.name: details(gpu).get("compute_capability") for gpu in GPUS}
    return {name: capability for name, capability in capable.items() if (capability or (0, 0)) < (8, 0)}


__all__ = ["GPUS", "gpu_names", "gpus_without_bfloat16", "keras", "tf", "without_native_chatter"]
