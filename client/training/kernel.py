"""The native code that trains linear heads: ``kernel.ll``, translated for this CPU by LLVM.

NumPy takes half as long again for the same steps: on matrices this small it spends its time between
operations, during which other threads wait for Python's lock. The source is in
``tools/training_kernel.py``. To translate it takes half a second, so the machine code is kept in
the user's cache.
"""

import ctypes
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.support.files import cache_folder, write_whole

TILE = 32  # images worked with at a time, for which there is working memory
OPTIMIZERS = {"sgd": 0, "momentum": 1, "nesterov": 2, "adam": 3, "adamw": 3}
_LINE = 16  # float32 numbers in a line of a CPU's cache
_MADV_DONTNEED = 4
_DIGEST = 32  # bytes of SHA-256, before the machine code in its file

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
    machine = host_machine()
    take_steps = loaded(machine_code(machine), machine)
    _release_translator()
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


def machine_code(machine: Any) -> bytes:
    """Return the machine code, from the user's cache if it is there.

    Without access to the cache it is translated again in each process. A file that is damaged, or
    somebody else's, is replaced.
    """
    import llvmlite
    import llvmlite.binding as llvm

    source = _source()
    versions = llvmlite.__version__, llvm.llvm_version_info, llvm.get_host_cpu_features().flatten()
    key = hashlib.sha256(repr((source, versions, llvm.get_host_cpu_name())).encode()).hexdigest()
    file = cache_folder("kernels") / f"training-{key[:32]}"
    if code := _read(file):
        return code
    code = bytes(machine.emit_object(optimized(machine)))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, hashlib.sha256(code).digest() + code, mode=0o600)
    except OSError:
        pass  # the next process translates it again
    return code


def _read(file: Path) -> bytes:
    """Return the code in a file, or b"" if it is missing, damaged, or not this user's own."""
    try:
        if hasattr(os, "getuid") and file.stat().st_uid != os.getuid():
            return b""
        content = file.read_bytes()
    except OSError:
        return b""
    code = content[_DIGEST:]
    return code if hashlib.sha256(code).digest() == content[:_DIGEST] else b""


def optimized(machine: Any) -> Any:
    """Return the module in LLVM's language, optimized for a machine.

    Unrolled and interleaved loops take longer to translate, and are no faster.
    """
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(_source())
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    tuning.loop_vectorization = True
    tuning.loop_unrolling = tuning.loop_interleaving = False
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return module


def _source() -> str:
    return files(__package__).joinpath("kernel.ll").read_text("utf-8")


def loaded(code: bytes, machine: Any) -> Kernel:
    """Load machine code for a machine of this kind into this process."""
    import llvmlite.binding as llvm

    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    pointer, count, factor = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    # The first two are where Numba's functions put a result and an exception: this one has neither.
    types = [*[pointer] * 15, *[count] * 9, *[factor] * 5]
    train = ctypes.CFUNCTYPE(ctypes.c_int32, *types)(engine.get_function_address("train"))

    def take_steps(
        arrays: Sequence[NDArray[Any]], counts: Sequence[int], factors: Sequence[float],
        memory: Any = (engine, code),
    ) -> None:  # fmt: skip  # the code is in this memory, which must not be freed
        nothing = ctypes.byref(pointer())
        train(nothing, nothing, *(array.ctypes.data for array in arrays), *counts, *factors)

    return take_steps


def _release_translator() -> None:
    """On Linux, give back the memory that LLVM's own code takes: 50 of the 65 MB that this adds.

    Code is never written to, so where it is needed again it is read from its file again.
    """
    if sys.platform != "linux":
        return
    for line in Path("/proc/self/maps").read_text("utf-8", "replace").splitlines():
        if " r-xp " in line and "libllvmlite" in line:
            begin, end = (int(address, 16) for address in line.split()[0].split("-"))
            ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _MADV_DONTNEED)
