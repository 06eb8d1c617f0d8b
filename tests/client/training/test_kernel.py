"""The native code that trains linear heads: by definition, on any CPU, from several threads."""

import hashlib
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.client.training import kernel as module
from fedtransfer.client.training import linear
from fedtransfer.client.training.kernel import OPTIMIZERS, TILE, kernel, tables
from fedtransfer.client.training.linear import LinearTrainer
from fedtransfer.client.training.trainer import Recipe, batches
from fedtransfer.common.head.head import Arrays, HeadSpec

ROOT = Path(__file__).parents[3]
SPEC = HeadSpec(33, 5)


def drawn(spec: HeadSpec, n: int, seed: int = 0) -> tuple[Arrays, np.ndarray, np.ndarray]:
    """A head, features of length 1, and labels."""
    rng = np.random.default_rng(seed)
    head = tuple(rng.normal(size=shape).astype(np.float32) for shape in spec.shapes)
    x, y = rng.normal(size=(n, spec.features)), rng.integers(0, spec.classes, n)
    return head, (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), y


def by_definition(spec: HeadSpec, recipe: Recipe, head: Arrays, x, y, rng, epochs: int) -> list[np.ndarray]:
    """Mini-batch steps by each optimizer's formula, in float64."""
    w, x = np.vstack([head[0], head[1:]]).astype(np.float64), np.c_[x, np.ones(len(x))]
    rate, step = recipe.learning_rate, 0
    m, v, kernels = np.zeros_like(w), np.zeros_like(w), np.ones(w.shape)
    kernels[-1] = 0
    for _ in range(epochs):
        for row in batches(len(y), recipe.batch_size, rng):
            rows, step = row[row >= 0], step + 1
            p = np.exp(x[rows] @ w - (x[rows] @ w).max(1, keepdims=True))
            p = p / p.sum(1, keepdims=True) - np.eye(spec.classes)[y[rows]]
            g = x[rows].T @ p / len(rows) + 2 * spec.l2 * kernels * w
            w = w - rate * recipe.weight_decay * kernels * w
            match recipe.optimizer:
                case "sgd":
                    w = w - rate * g
                case "momentum" | "nesterov":
                    m = 0.9 * m - rate * g
                    w = w + (m if recipe.optimizer == "momentum" else 0.9 * m - rate * g)
                case "adam":
                    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
                    w = w - rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step) * m / (np.sqrt(v) + 1e-7)
    return [w[:-1], w[-1]]


@given(
    st.sampled_from(["sgd", "momentum", "nesterov"]), st.integers(1, 40), st.integers(1, 9),
    st.integers(1, 75), st.integers(1, 80), st.sampled_from([0.0, 0.01]), st.sampled_from([0.0, 0.1]),
    st.integers(0, 99),
)  # fmt: skip
def test_heads_of_any_shape_and_batches_of_any_size_are_trained_by_the_optimizers_formulas(
    optimizer: str, features: int, classes: int, n: int, size: int, l2: float, decay: float, seed: int
) -> None:
    spec, recipe = HeadSpec(features, classes, l2=l2), Recipe(optimizer, 0.1, size, 1, weight_decay=decay)
    head, x, y = drawn(spec, n, seed)
    got = LinearTrainer(spec, recipe).train(head, x, y, np.random.default_rng(seed), 3)
    wanted = by_definition(spec, recipe, head, x, y, np.random.default_rng(seed), 3)
    for a, b, shape in zip(got, wanted, spec.shapes, strict=True):
        assert (a.dtype, a.shape, a.flags.c_contiguous) == (np.float32, shape, True)
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("spec", [SPEC, HeadSpec(16, 2), HeadSpec(15, 3, l2=0.01)])
def test_adam_is_that_of_its_formula(spec: HeadSpec) -> None:
    """Not for any shape: it divides by sizes of gradients, even by what rounding left of 0."""
    recipe = Recipe("adam", 0.01, 16, 1, weight_decay=0.1)
    head, x, y = drawn(spec, 75)
    got = LinearTrainer(spec, recipe).train(head, x, y, np.random.default_rng(0), 3)
    wanted = by_definition(spec, recipe, head, x, y, np.random.default_rng(0), 3)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_a_site_without_images_returns_the_head() -> None:
    head, x, y = drawn(SPEC, 0)
    after = LinearTrainer(SPEC, Recipe("adam", 0.1, 8, 1)).train(head, x, y, np.random.default_rng(0), 3)
    for a, b in zip(after, head, strict=True):
        np.testing.assert_array_equal(a, b)


def test_all_cpus_give_the_same_head_but_for_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """As translated for the plainest CPU of this kind, which has no newer vector instructions."""
    import llvmlite.binding as llvm

    head, x, y = drawn(SPEC, 70)
    here = LinearTrainer(SPEC, Recipe("sgd", 0.5, 16, 1)).train(head, x, y, np.random.default_rng(0), 3)
    plainest = llvm.Target.from_default_triple().create_target_machine(opt=2, jit=True)
    code = bytes(plainest.emit_object(module.optimized(plainest)))
    monkeypatch.setattr(linear, "kernel", lambda: module.loaded(code, plainest))
    there = LinearTrainer(SPEC, Recipe("sgd", 0.5, 16, 1)).train(head, x, y, np.random.default_rng(0), 3)
    for a, b in zip(here, there, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_machine_code_is_kept_in_the_users_cache_and_a_damaged_file_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    machine = module.host_machine()
    code = module.machine_code(machine)
    [file] = (tmp_path / "fedtransfer" / "kernels").iterdir()
    whole = file.read_bytes()
    assert whole.endswith(code)
    assert file.stat().st_mode & 0o777 == 0o600
    with monkeypatch.context() as never:
        never.setattr(module, "optimized", lambda machine: pytest.fail("it is translated again"))
        assert module.machine_code(machine) == code
    for damaged in (whole[:-1], code):
        file.write_bytes(damaged)
        assert module.machine_code(machine) == code
        assert file.read_bytes() == whole
    with monkeypatch.context() as other:
        other.setattr("os.getuid", lambda: os.stat(file).st_uid + 1)
        other.setattr(module, "optimized", lambda machine: pytest.fail("so somebody else's is not used"))
        with pytest.raises(pytest.fail.Exception, match="is not used"):
            module.machine_code(machine)


def resident(library: str) -> int:
    """Return how many kB of a library's code are in this process's memory."""
    maps, found = Path("/proc/self/smaps").read_text().splitlines(), 0
    for number, line in enumerate(maps):
        if " r-xp " in line and library in line:
            found += next(int(rss.split()[1]) for rss in maps[number:] if rss.startswith("Rss:"))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="the memory is given back on Linux alone")
def test_llvm_leaves_no_code_in_memory_and_works_again() -> None:
    head, x, y = drawn(SPEC, 40)
    heads = []
    for _ in range(2):
        module.optimized(module.host_machine())
        before = resident("libllvmlite")
        module._kernel.cache_clear()
        heads.append(
            LinearTrainer(SPEC, Recipe("sgd", 0.5, 8, 1)).train(head, x, y, np.random.default_rng(0), 2)
        )
        assert resident("libllvmlite") < before / 10
    np.testing.assert_array_equal(heads[0][0], heads[1][0])


def test_it_works_without_a_cache_and_with_one_file_for_all_processes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    machine = module.host_machine()
    code = module.machine_code(machine)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with ThreadPoolExecutor(4) as pool:
        assert {*pool.map(lambda _: module.machine_code(module.host_machine()), range(4))} == {code}
    assert len([*(tmp_path / "cache" / "fedtransfer" / "kernels").iterdir()]) == 1


@pytest.mark.parametrize(
    ("triple", "cpu", "instruction"),
    [
        ("aarch64-unknown-linux-gnu", "neoverse-n1", "fmla"),
        ("arm64-apple-macosx14", "apple-m1", "fmla"),
        ("x86_64-pc-windows-msvc", "x86-64-v3", "vfmadd"),
    ],
)
def test_it_is_translated_for_other_machines_too(triple: str, cpu: str, instruction: str) -> None:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=2)
    assert machine.emit_assembly(module.optimized(machine)).count(instruction) > 10


def test_threads_that_train_at_a_time_get_the_bits_of_one() -> None:
    spec, recipe = HeadSpec(300, 10), Recipe("momentum", 0.5, 32, 1)
    head, x, y = drawn(spec, 500)

    def train(seed: int) -> Arrays:
        return LinearTrainer(spec, recipe).train(head, x, y, np.random.default_rng(seed), 20)

    alone, together = [train(seed) for seed in range(4)], {}
    threads = [threading.Thread(target=lambda s=seed: together.update({s: train(s)})) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, expected in enumerate(alone):
        for a, b in zip(together[seed], expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_other_threads_run_while_it_does() -> None:
    """Python would never take its lock from the thread that trains; this one changes its work.

    It takes away the correction, by which steps are counted.
    """
    before, steps, size, features = sys.getswitchinterval(), 4_000, 64, 2000
    head, ahead, anchor, correction, m, v, gradient = tables(7, 2, features + 1)
    x, y, numbers = (
        np.zeros((1, features), np.float32),
        np.zeros(1, np.int64),
        np.zeros((steps, size), np.int32),
    )
    [images], scores = tables(1, TILE, features + 1), np.empty((TILE, 2), np.float32)
    ones = np.ones(2, np.float32)
    arrays = (x, y, numbers, head, ahead, anchor, correction, ones, m, v, images, scores, gradient)
    counts = (features, 2, *head.shape, steps, 1, size, OPTIMIZERS["sgd"], 0)
    take_steps, began = kernel(), threading.Event()

    def train() -> None:
        began.set()
        take_steps(arrays, counts, (1.0, 0.0, 0.0, 0.0, 0.0))

    correction[1] = 1  # which each step subtracts from the head
    try:
        sys.setswitchinterval(1000)
        thread = threading.Thread(target=train)
        thread.start()
        began.wait()
        correction[1] = 0
        thread.join()
    finally:
        sys.setswitchinterval(before)
    assert -head[1, -1] < steps / 2


def test_features_need_not_be_laid_out_as_native_code_has_them() -> None:
    head, x, y = drawn(SPEC, 40)
    trainer = LinearTrainer(SPEC, Recipe("sgd", 0.5, 8, 1))
    expected = trainer.train(head, x, y, np.random.default_rng(0), 2)
    read_only = x.copy()
    read_only.flags.writeable = False
    unaligned = np.frombuffer(b"-" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape)
    for other in (np.asfortranarray(x), np.repeat(x, 2, 0)[::2], x.astype(np.float64), read_only, unaligned):
        got = trainer.train(head, other, y.astype(np.int32), np.random.default_rng(0), 2)
        np.testing.assert_array_equal(got[0], expected[0])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"y": np.full(40, 5)}, "class numbers 5 to 5; expected 0 to 4"),
        ({"y": np.full(40, -1)}, "class numbers -1 to -1; expected 0 to 4"),
        ({"y": np.zeros(39, int)}, r"features \(40, 33\), labels \(39,\)"),
        ({"x": np.zeros((40, 32), np.float32)}, r"features \(40, 32\).*expected \(n, 33\)"),
        ({"class_weights": np.ones(4, np.float32)}, r"class weights \(4,\); expected .*\(5,\)"),
        ({"correction": (np.zeros((33, 1), np.float32), np.zeros(5, np.float32))}, r"arrays of \(\(33, 1\)"),
        ({"head": (np.zeros((33, 5), np.float32),)}, r"arrays of \(\(33, 5\),\); expected"),
    ],
)
def test_what_would_have_it_read_elsewhere_in_memory_is_refused(change: dict, text: str) -> None:
    head, x, y = drawn(SPEC, 40)
    given_ = {"head": head, "x": x, "y": y, "rng": np.random.default_rng(0), "epochs": 1} | change
    with pytest.raises(ValueError, match=text):
        LinearTrainer(SPEC, Recipe("sgd", 0.5, 8, 1)).train(**given_)


def test_a_head_that_overflows_is_not_of_finite_numbers_and_nothing_else_happens() -> None:
    head, x, y = drawn(SPEC, 40)
    x[3, 2] = np.nan
    trainer = LinearTrainer(SPEC, Recipe("sgd", 0.5, 8, 1))
    assert np.isnan(trainer.train(head, x, y, np.random.default_rng(0), 2)[0]).all()
    x[3, 2] = 0
    assert np.isfinite(trainer.train(head, x, y, np.random.default_rng(0), 2)[0]).all()


def test_the_file_is_what_its_source_says_now() -> None:
    """If this fails: python tools/training_kernel.py."""
    source = (ROOT / "tools" / "training_kernel.py").read_bytes()
    first = (ROOT / "client" / "training" / "kernel.ll").read_text("utf-8").splitlines()[0]
    assert first == f"; tools/training_kernel.py {hashlib.sha256(source).hexdigest()}"


@pytest.mark.full
@pytest.mark.process
def test_numba_makes_of_the_source_a_file_of_the_same_functions(tmp_path: Path) -> None:
    """Another Python may name values differently; so the functions are compared, not the text."""
    pytest.importorskip("numba")
    script = "import training_kernel as t; print(t.translate())"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT / "tools", capture_output=True, text=True, check=True
    )
    text = (ROOT / "client" / "training" / "kernel.ll").read_text("utf-8")
    for made in (done.stdout, text):
        names = [line.split("@")[1].split("(")[0] for line in made.splitlines() if line.startswith("define")]
        assert sorted(names) == ["add_products", "differentiate", "move", "score", "slope", "train"]
        assert str(ROOT) not in made
