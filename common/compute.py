"""TensorFlow and Keras, set up once: import them from here and from nowhere else.

Every operation, NumPy's products included, runs on one thread; work is spread over cores by running several image batches or several
sites at a time. So a result never depends on how many cores there are.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextmanager
def _without_native_chatter() -> Iterator[None]:
    """Hold back what native libraries print while they load; TensorFlow's log level does not cover that."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


with _without_native_chatter():
    import keras
    import tensorflow as tf

THREADS_PER_OPERATION = "FEDTRANSFER_THREADS_PER_OPERATION"  # 0: one a core; pretraining, one large job, sets it
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)

threadpool_limits(1, "blas")
tf.config.threading.set_intra_op_parallelism_threads(int(os.environ.get(THREADS_PER_OPERATION, "1")))
tf.config.threading.set_inter_op_parallelism_threads(max(CORES, 2))

GPUS = tf.config.list_physical_devices("GPU")
for gpu in GPUS:
    tf.config.experimental.set_memory_growth(gpu, True)  # several processes share one


def device() -> str:
    """Name what the backbone runs on, for people."""
    if GPUS:
        names = {tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in GPUS}
        return f"GPU ({', '.join(sorted(names))})"
    return f"CPU ({CORES} cores)"


__all__ = ["CORES", "GPUS", "device", "keras", "tf"]
