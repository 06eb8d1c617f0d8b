"""The native code that trains linear heads: ``kernel.ll``, translated for this CPU by LLVM.

NumPy takes twice as long for the same steps: on matrices this small it spends its time between
operations, during which other threads wait for Python's lock. The source is in
``tools/training_kernel.py``. To translate it takes half a second, once a process.
"""

import ctypes
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

TILE = 32  # images worked with at a time, for which there is working memory
OPTIMIZERS = {"sgd": 0, "momentum": 1, "nesterov": 2, "adam": 3, "adamw": 3}
_LINE = 16  # float32 numbers in a line of a CPU's cache

Kernel = Callable[[Sequence[NDArray[Any]], Sequence[int], Sequence[float]], None]


def kernel() -> Kernel:
    """Return what takes steps of training: arrays, counts and factors of ``train`` in the source.

    It checks none of them, and does not hold Python's lock.
    """
    with _lock:
        return _kernel()


def tables(number: int, rows: int, width: int) -> NDArray[np.float32]:
    """Return zeros (number, rows, width'), each row at the start of a line of the CPU's cache.

    The width' is at least ``width``, and an odd number of lines: in a core's own cache, rows at
    distances of a power of two would push each other out.
    """
    lines = -(-width // _LINE) | 1
    memory = np.zeros(number * rows * lines * _LINE + _LINE, np.float32)
    first = -memory.ctypes.data % (4 * _LINE) // 4
    return memory[first : first + number * rows * lines * _LINE].reshape(number, rows, lines * _LINE)


_lock = threading.Lock()


@lru_cache(maxsize=1)
def _kernel() -> Kernel:
    return translated(host_machine())


def translated(machine: Any) -> Kernel:
    """Translate the kernel for a machine of this kind."""
    import llvmlite.binding as llvm

    engine = llvm.create_mcjit_compiler(optimized(machine), machine)
    engine.finalize_object()
    pointer, count, factor = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    # The first two are where Numba's functions put a result and an exception: this one has neither.
    types = [*[pointer] * 15, *[count] * 9, *[factor] * 5]
    train = ctypes.CFUNCTYPE(ctypes.c_int32, *types)(engine.get_function_address("train"))

    def take_steps(
        arrays: Sequence[NDArray[Any]], counts: Sequence[int], factors: Sequence[float], engine: Any = engine
    ) -> None:  # which holds the engine: the code is in its memory
        nothing = ctypes.byref(pointer())
        train(nothing, nothing, *(array.ctypes.data for array in arrays), *counts, *factors)

    return take_steps


def host_machine() -> Any:
    """Return this machine, as LLVM describes those that it can translate for."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    flat = features.flatten()
    if features.get("avx512f"):  # all of the 512 bits: a fifth faster than half of them, which LLVM prefers
        flat += ",-prefer-256-bit"
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=flat, opt=2, jit=True)


def optimized(machine: Any) -> Any:
    """Return the module in LLVM's language, optimized for a machine.

    Unrolled and interleaved loops take twice as long to translate, and are no faster.
    """
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(files(__package__).joinpath("kernel.ll").read_text("utf-8"))
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    tuning.loop_vectorization = True
    tuning.loop_unrolling = tuning.loop_interleaving = False
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return module
