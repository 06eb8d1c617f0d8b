"""Write ``client/training/kernel.ll``: the steps that train a linear head, in LLVM's language.

    python tools/training_kernel.py

The functions below are the source of that file. Numba, which only maintainers need, translates them
to LLVM's language. LLVM translates that for the CPU at hand when something trains first, in half a
second (``fedtransfer.client.training.kernel``). So no user waits for Numba, or needs a compiler.

Arrays are flat. A head is a table of K rows of w numbers: a class's weights, its bias, and zeros. K
is the number of classes, made even, because two rows are worked with at a time.
"""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

os.environ |= {  # before Numba is imported: it reads them then
    "NUMBA_OPT": "1", "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_LOOP_VECTORIZE": "0",
    "NUMBA_SLP_VECTORIZE": "0",
}  # fmt: skip

import llvmlite.binding as llvm
import numpy as np
from numba import cfunc, float32, float64, njit, types

TARGET = Path(__file__).parents[1] / "client" / "training" / "kernel.ll"
Floats: TypeAlias = list[float]
Integers: TypeAlias = list[int]
Function = TypeVar("Function", bound=Callable[..., Any])

TILE = 32  # images worked with at a time: few enough for a core's own cache
SGD, MOMENTUM, NESTEROV, ADAM = range(4)
FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-7  # of momentum and of Adam, as in Keras

# Sums may be reordered, so that several numbers are added at a time. NaN and infinity stay.
_OPTIONS: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy", "_nrt": False,
}  # fmt: skip


def compiled(function: Function) -> Function:
    """Have Numba compile a function."""
    dispatcher: Function = njit(**_OPTIONS)(function)
    return dispatcher


@compiled
def gather(x: Floats, batch: Integers, begin: int, n: int, images: Floats, features: int, width: int) -> None:
    """Copy n images of a batch, each with a 1 for the bias; and zeros up to a multiple of 4."""
    for i in range(n):
        image = batch[begin + i] * features
        for j in range(features):
            images[i * width + j] = x[image + j]
        images[i * width + features] = float32(1)
    for j in range(n * width, (n + 3) // 4 * 4 * width):
        images[j] = float32(0)


@compiled
def score(images: Floats, n: int, head: Floats, scores: Floats, rows: int, width: int) -> None:
    """Compute the scores of n images, of 4 images and 2 classes at a time."""
    for c in range(0, rows, 2):
        a, b = c * width, (c + 1) * width
        for i in range(0, n, 4):
            x0, x1, x2, x3 = i * width, (i + 1) * width, (i + 2) * width, (i + 3) * width
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = float32(0)
            for j in range(width):
                a0 += head[a + j] * images[x0 + j]
                a1 += head[a + j] * images[x1 + j]
                a2 += head[a + j] * images[x2 + j]
                a3 += head[a + j] * images[x3 + j]
                b0 += head[b + j] * images[x0 + j]
                b1 += head[b + j] * images[x1 + j]
                b2 += head[b + j] * images[x2 + j]
                b3 += head[b + j] * images[x3 + j]
            s0, s1, s2, s3 = i * rows + c, (i + 1) * rows + c, (i + 2) * rows + c, (i + 3) * rows + c
            scores[s0], scores[s1], scores[s2], scores[s3] = a0, a1, a2, a3
            scores[s0 + 1], scores[s1 + 1], scores[s2 + 1], scores[s3 + 1] = b0, b1, b2, b3


@compiled
def differentiate(
    scores: Floats, y: Integers, batch: Integers, begin: int, n: int, share: float, class_weights: Floats,
    classes: int, rows: int,
) -> None:  # fmt: skip
    """Turn n images' scores into the loss's derivative by them: share · class weight · (p - y)."""
    for i in range(n):
        s, label = i * rows, y[batch[begin + i]]
        largest, total = scores[s], float32(0)
        for c in range(1, classes):
            largest = max(largest, scores[s + c])
        for c in range(classes):
            scores[s + c] = np.exp(scores[s + c] - largest)
            total += scores[s + c]
        factor = share * class_weights[label]
        for c in range(classes):
            scores[s + c] *= factor / total
        scores[s + label] -= factor
        for c in range(classes, rows):
            scores[s + c] = float32(0)
    for j in range(n * rows, (n + 3) // 4 * 4 * rows):
        scores[j] = float32(0)


@compiled
def add_products(images: Floats, n: int, scores: Floats, gradient: Floats, rows: int, width: int) -> None:
    """Add scoresᵀ · images to the gradient, of 4 images and 2 classes at a time."""
    for c in range(0, rows, 2):
        a, b = c * width, (c + 1) * width
        for i in range(0, n, 4):
            x0, x1, x2, x3 = i * width, (i + 1) * width, (i + 2) * width, (i + 3) * width
            s0, s1, s2, s3 = i * rows + c, (i + 1) * rows + c, (i + 2) * rows + c, (i + 3) * rows + c
            a0, a1, a2, a3 = scores[s0], scores[s1], scores[s2], scores[s3]
            b0, b1, b2, b3 = scores[s0 + 1], scores[s1 + 1], scores[s2 + 1], scores[s3 + 1]
            for j in range(width):
                p0, p1, p2, p3 = images[x0 + j], images[x1 + j], images[x2 + j], images[x3 + j]
                gradient[a + j] += a0 * p0 + a1 * p1 + a2 * p2 + a3 * p3
                gradient[b + j] += b0 * p0 + b1 * p1 + b2 * p2 + b3 * p3


@compiled
def slope(
    x: Floats, y: Integers, batches: Integers, begin: int, size: int, head: Floats, class_weights: Floats,
    l2: float, images: Floats, scores: Floats, gradient: Floats, features: int, classes: int, rows: int,
    width: int,
) -> None:  # fmt: skip
    """Write into ``gradient`` that of a batch's mean loss, and of the L2 penalty on weights."""
    n = 0
    while n < size and batches[begin + n] >= 0:
        n += 1
    for c in range(rows):
        for j in range(c * width, c * width + width):
            gradient[j] = float32(0)
        if l2:
            for j in range(c * width, c * width + features):
                gradient[j] = float32(2) * l2 * head[j]
    for first in range(0, n, TILE):
        part, at, share = min(TILE, n - first), begin + first, float32(1) / float32(n)
        gather(x, batches, at, part, images, features, width)
        score(images, part, head, scores, rows, width)
        differentiate(scores, y, batches, at, part, share, class_weights, classes, rows)
        add_products(images, part, scores, gradient, rows, width)


@compiled
def move(
    w: Floats, g: Floats, m: Floats, v: Floats, size: int, optimizer: int, rate: float, step: int
) -> None:
    """Take an optimizer's step, as Keras has it; ``step`` counts from 1."""
    keep, blend = float32(FIRST_DECAY), float32(1 - FIRST_DECAY)
    if optimizer == SGD:
        for j in range(size):
            w[j] -= rate * g[j]
    elif optimizer == ADAM:
        first = float32(1) - float32(float64(float32(FIRST_DECAY)) ** float64(step))
        second = float32(1) - float32(float64(float32(SECOND_DECAY)) ** float64(step))
        scale, square_blend = rate * np.sqrt(second) / first, float32(1 - SECOND_DECAY)
        for j in range(size):
            m[j] += (g[j] - m[j]) * blend
            v[j] += (g[j] * g[j] - v[j]) * square_blend
            w[j] -= m[j] * scale / (np.sqrt(v[j]) + float32(EPSILON))
    elif optimizer == NESTEROV:
        for j in range(size):
            m[j] = keep * m[j] - rate * g[j]
            w[j] += keep * m[j] - rate * g[j]
    else:
        for j in range(size):
            m[j] = keep * m[j] - rate * g[j]
            w[j] += m[j]


def train(
    x: Floats, y: Integers, batches: Integers, head: Floats, ahead: Floats, anchor: Floats,
    correction: Floats, class_weights: Floats, m: Floats, v: Floats, images: Floats, scores: Floats,
    gradient: Floats, features: int, classes: int, rows: int, width: int, count: int, parts: int,
    size: int, optimizer: int, steps: int, rate: float, inner_rate: float, proximal: float, decay: float,
    l2: float,
) -> None:  # fmt: skip
    """Take ``count`` steps, each on a batch of ``size`` image numbers, padded with -1.

    With an inner rate (Per-FedAvg) a step takes two batches: its gradient is on the second, where a
    step on the first leads.

    Args:
        x, y: features (n, features) and class numbers (n,).
        batches: image numbers, batch after batch.
        head: the table (rows, width) to train.
        ahead, images, scores, gradient: working memory: (rows, width), (TILE, width), (TILE, rows),
            (rows, width).
        anchor, correction: what FedProx pulls to, and what SCAFFOLD adds to gradients.
        class_weights: (classes,), factors on the images' losses.
        m, v: the optimizer's state.
        steps: number of steps that were taken before.
    """
    for s in range(count):
        point = head
        for k in range(parts):
            slope(
                x, y, batches, (s * parts + k) * size, size, point, class_weights, l2, images, scores,
                gradient, features, classes, rows, width,
            )  # fmt: skip
            if k + 1 < parts:
                for j in range(rows * width):
                    ahead[j] = head[j] - inner_rate * gradient[j]
                point = ahead
        if proximal:
            for j in range(rows * width):
                gradient[j] += proximal * (head[j] - anchor[j])
        for j in range(rows * width):
            gradient[j] += correction[j]
        if decay:  # of weights, not of biases
            for c in range(rows):
                for j in range(c * width, c * width + features):
                    head[j] -= rate * decay * head[j]
        move(head, gradient, m, v, rows * width, optimizer, rate, steps + s + 1)


def written(source: bytes) -> str:
    """Return what a text in LLVM's language begins with: the hash of this file, its source."""
    return f"; tools/training_kernel.py {hashlib.sha256(source).hexdigest()}\n"


def translate() -> str:
    """Return ``train`` in LLVM's language, for no machine in particular.

    It is simplified, but neither unrolled nor vectorized: that is for the CPU at hand.
    """
    floats = types.CPointer(types.float32)
    signature = types.void(
        floats, types.CPointer(types.int64), types.CPointer(types.int32), *[floats] * 10,
        *[types.int64] * 9, *[types.float32] * 5,
    )  # fmt: skip
    compiled_by_numba = cfunc(signature, **_OPTIONS)(train)
    module = llvm.parse_assembly(compiled_by_numba._library.get_llvm_str())
    for value in (*module.functions, *module.global_variables):
        if not (value.is_declaration or re.match(rf"{_MANGLED}train", value.name)):
            value.linkage = "internal"
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()  # of Numba's wrapper, which needs Python
    machine = llvm.Target.from_default_triple().create_target_machine()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    text = re.sub(r"^(target|source_filename|; ModuleID) .*\n", "", str(module), flags=re.MULTILINE)
    return re.sub(rf"{_MANGLED}([a-z_]+)B\w*", r"\1", text)


_MANGLED = rf"_ZN\d+{__name__}\d+"  # how Numba's names of this file's functions begin

if __name__ == "__main__":
    TARGET.write_text(written(Path(__file__).read_bytes()) + translate(), "utf-8")
