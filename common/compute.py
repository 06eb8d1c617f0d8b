"""What computes features here: OpenVINO on the CPU, or TensorFlow on a GPU.

Every operation, NumPy's products included, runs on one thread; several image batches or several
sites run at a time. So a result never depends on the number of cores.
"""

import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from threadpoolctl import threadpool_limits

from fedtransfer.common.support.processes import CORES

OPENVINO, TENSORFLOW = "openvino", "tensorflow"
# What a driver of NVIDIA or AMD, or Windows' Linux, puts there for a GPU.
_GPU_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")

threadpool_limits(1, "blas")


def engine_of(compute: str) -> str:
    """Return ``openvino`` or ``tensorflow`` for a setting: one of them, or ``auto``.

    ``auto`` is TensorFlow if it sees a GPU, or if OpenVINO is not installed. TensorFlow is asked
    only on a machine with a GPU and a TensorFlow that can use it: importing it takes seconds.
    """
    if compute != "auto":
        return compute
    if find_spec("openvino") is None:
        return TENSORFLOW
    if _may_have_gpu():
        from fedtransfer.common.tensorflow import GPUS

        return TENSORFLOW if GPUS else OPENVINO
    return OPENVINO


def _may_have_gpu() -> bool:
    if sys.platform == "darwin":
        return _version("tensorflow-metal") != ""
    # tensorflow-cpu, which Linux on x86-64 gets by default, can use no GPU.
    return _version("tensorflow") != "" and any(Path(file).exists() for file in _GPU_FILES)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def device(engine: str) -> str:
    """Return what features are computed on, for people: ``CPU (2 cores, OpenVINO 2026.4.1)``."""
    if engine == OPENVINO:
        return f"CPU ({CORES} cores, OpenVINO {_version('openvino')})"
    from fedtransfer.common.tensorflow import GPUS, gpu_names, tf

    return f"{f'GPU ({gpu_names()}' if GPUS else f'CPU ({CORES} cores'}, TensorFlow {tf.__version__})"


def why_no_bfloat16(engine: str) -> str:
    """Return why bfloat16 is of no use here; "" if the GPUs or the CPU compute in it."""
    if engine == TENSORFLOW:
        from fedtransfer.common.tensorflow import GPUS, gpus_without_bfloat16

        if GPUS:
            old = gpus_without_bfloat16()
            return f"it takes GPUs of compute capability 8.0 or more, found {old}" if old else ""
    try:
        words = set(Path("/proc/cpuinfo").read_text("utf-8").split())
    except OSError:
        words = set()
    if words & {"avx512_bf16", "amx_bf16", "bf16"}:
        return ""
    return "no GPU is used, and this CPU has none of the instructions avx512_bf16, amx_bf16 and bf16"
