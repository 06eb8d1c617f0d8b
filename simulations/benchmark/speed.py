"""How fast: seconds a round next to rivals, and images a second next to a compiled Keras loop.

Each measurement runs in a process of its own, whose start and imports count, and all take turns: a
machine is never equally quiet for two minutes, so only figures of one turn are compared.

The workload of ``speed`` is that of the scripts for other frameworks: K = 10 clients with N = 500
feature vectors of width D = 2048 and labels of C = 10 classes; one softmax layer from zeros; one
local epoch of SGD in batches of 32 at rate 0.005; all clients in every round, and no scoring in
between. Ours uses all its parts: manifests, feature store, ClientApp, protocol, in-process engine,
admission, checkpoints, run folder.
"""

import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.config.config import BUNDLED
from fedtransfer.common.errors import UserError

CLIENTS, EXAMPLES, WIDTH, CLASSES = 10, 500, 2048, 10
RATE, BATCH = 0.005, 32
Line = dict[str, Any]

_PLAIN: dict[str, Any] = {
    "server_learning_rate": 1.0, "server_momentum": 0.0, "learning_rate": RATE, "standardise": "none",
    "normalise": False,
}  # fmt: skip
_PRIVATE: dict[str, Any] = {
    **_PLAIN, "weighting": "uniform", "noise_multiplier": 1.0, "classes": "declared",
    "class_names": ",".join(map(str, range(CLASSES))),
}  # fmt: skip
# What fedtransfer is measured with: the rivals' workload; our defaults, with a validation split and
# scores in every round; and the plain one under differential privacy of each unit.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("fedtransfer", _PLAIN),
    "defaults": ("fedtransfer, its defaults", {}),
    "site": ("fedtransfer, --dp site", {**_PRIVATE, "dp": "site"}),
    "image": (
        "fedtransfer, --dp image",
        {**_PRIVATE, "dp": "image", "image_rate": BATCH / EXAMPLES, "batch_size": BATCH, "local_steps": 16},
    ),
}
FLOOR = "plain NumPy loop"
_SELF = [sys.executable, "-m", "fedtransfer.simulations.benchmark.speed"]
_BEGAN = "FEDTRANSFER_BENCHMARK_BEGAN"  # when a process was started, in seconds since 1970
_IMAGES = {"bundled": 3000, "resnet50v2": 256}  # that are extracted


def speed_commands(rounds: int, rivals: Mapping[str, str]) -> dict[str, list[str]]:
    """Return system → the command that measures it; rivals' print a line of JSON as ours."""
    ours = {label: [*_SELF, "rounds", kind, str(rounds)] for kind, (label, _) in KINDS.items()}
    others = {name: shlex.split(command) for name, command in rivals.items()}
    return {FLOOR: [*_SELF, "floor", str(rounds)], **others, **ours}


def extraction_commands() -> dict[str, list[str]]:
    """Return system → the command that measures its images a second."""
    networks = {"bundled, 64 px": "bundled", "ResNet50V2, 224 px": "resnet50v2"}
    return {
        f"{system}: {network}": [*_SELF, "extraction", kind, name]
        for network, name in networks.items()
        for system, kind in (("compiled Keras loop", "keras"), ("fedtransfer", "openvino"))
    }


def measure_in_turn(commands: Mapping[str, Sequence[str]], repeats: int) -> dict[str, list[Line]]:
    """Run all commands one after the other, ``repeats`` times; return system → its lines of JSON.

    Raises:
        UserError: a command fails, or its last line is no JSON object; the text has its last words.
    """
    lines: dict[str, list[Line]] = {system: [] for system in commands}
    for _ in range(repeats):
        for system, command in commands.items():
            environment = {**os.environ, _BEGAN: repr(time.time())}
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            try:
                lines[system].append(dict(json.loads(done.stdout.splitlines()[-1])))
            except (IndexError, ValueError):
                words = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it printed nothing"]
                raise UserError(
                    f"{system}: expected a line of JSON from {shlex.join(command)}, "
                    f"got exit status {done.returncode}: {words[0]}"
                ) from None
    return lines


def client_data(k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return features (N, D), as after a ReLU, and labels (N,) from a linear teacher."""
    rng = np.random.default_rng(100 + k)
    teacher = np.random.default_rng(0).normal(size=(WIDTH, CLASSES))
    x = np.maximum(rng.normal(size=(EXAMPLES, WIDTH)), 0).astype(np.float32)
    return x, (x @ teacher).argmax(1)


def _report(began: float, rounds: Sequence[float], kernel: Any, bias: Any) -> Line:
    total = time.time() - began
    x, y = client_data(99)  # the test set
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return {
        "total_s": round(total, 3),
        "first_round_s": round(rounds[0], 4),
        "steady_round_s": round(float(np.median(rounds[1:])), 4),
        "accuracy": round(float(((x @ kernel + bias).argmax(1) == y).mean()), 4),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit,
    }


def measure_floor(rounds: int, began: float) -> Line:
    """Measure the least that a framework could do: the workload in a loop over NumPy arrays."""
    data = [client_data(k) for k in range(CLIENTS)]
    kernel, bias, seconds = np.zeros((WIDTH, CLASSES), np.float32), np.zeros(CLASSES, np.float32), []
    for number in range(rounds):
        start = time.time()
        total, total_bias = np.zeros(kernel.shape), np.zeros(bias.shape)
        for k, (x, y) in enumerate(data):
            w, b = kernel.copy(), bias.copy()
            order = np.random.default_rng([number, k]).permutation(EXAMPLES)
            for at in range(0, EXAMPLES, BATCH):
                rows = order[at : at + BATCH]
                scores = x[rows] @ w + b
                scores = np.exp(scores - scores.max(1, keepdims=True))
                scores /= scores.sum(1, keepdims=True)
                scores[np.arange(len(rows)), y[rows]] -= 1
                scores *= np.float32(RATE / len(rows))
                w -= x[rows].T @ scores
                b -= scores.sum(0)
            total += w - kernel
            total_bias += b - bias
        kernel += (total / CLIENTS).astype(np.float32)
        bias += (total_bias / CLIENTS).astype(np.float32)
        seconds.append(time.time() - start)
    return _report(began, seconds, kernel, bias)


def measure_rounds(kind: str, rounds: int, began: float) -> Line:
    """Run the workload by fedtransfer, with a run folder that is removed afterwards."""
    from fedtransfer.client.app import app as client_app
    from fedtransfer.common.config.config import RunConfig
    from fedtransfer.common.data.sources import read_source, write_manifest
    from fedtransfer.common.head.head import load_head
    from fedtransfer.common.support.processes import CORES
    from fedtransfer.server.app import make_app
    from fedtransfer.server.callbacks import Callback, Round
    from fedtransfer.simulations.engines.inprocess import SimulatedSite, run_in_process

    ends: list[float] = []

    class Clock(Callback):
        def on_round(self, record: Round) -> None:
            ends.append(time.time())

    with tempfile.TemporaryDirectory() as folder:
        root, sites = Path(folder), []
        for k in range(CLIENTS):
            x, y = client_data(k)
            archive = root / f"client-{k}.npz"
            np.savez(archive, x_train=x, y_train=y)
            manifest = root / f"client-{k}" / "images.csv"
            images = read_source(archive).images
            everything = [replace(image, split="train") for image in images]  # none to score heads on
            write_manifest(manifest, images if kind == "defaults" else everything)
            sites.append(SimulatedSite(f"client-{k}", {"data": str(manifest), "state": str(manifest.parent)}))
        config = RunConfig(
            data="benchmark", sites=CLIENTS, rounds=rounds, backbone=f"features-{WIDTH}",
            out=str(root / "run"), store=str(root / "store"), **KINDS[kind][1],
        )  # fmt: skip
        ends.append(time.time())
        run_in_process(make_app([Clock()]), client_app, sites, config.to_flat(), CORES)
        kernel, bias = load_head(root / "run" / "head.npz")[0]
        return _report(began, np.diff(ends)[:rounds].tolist(), kernel, bias)


def measure_extraction(kind: str, network: str) -> Line:
    """Return images a second over images of the demo data set.

    ``openvino`` reads, decodes, resizes, extracts and stores as a run does; ``keras`` runs the same
    network, compiled, over batches that were decoded and resized beforehand, with TensorFlow's own
    threads.
    """
    from fedtransfer.common.data.sources import read_source
    from fedtransfer.simulations.data.datasets import resolve_data

    images = read_source(resolve_data("cifar10-demo")).images[: _IMAGES[network]]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        if kind == "keras":
            os.environ["FEDTRANSFER_THREADS_PER_OPERATION"] = "0"
        name = _resnet50v2(Path(folder)) if network == "resnet50v2" else BUNDLED
        seconds = (_keras_loop if kind == "keras" else _extract)(name, images, Path(folder))
    return {"images_per_s": round(len(images) / seconds, 1)}


def _resnet50v2(folder: Path) -> str:
    """Write a ResNet50V2 with drawn weights, which take as long as trained ones."""
    from fedtransfer.common.tensorflow import keras

    file = folder / "resnet50v2.keras"
    keras.applications.ResNet50V2(include_top=False, weights=None, pooling="avg").save(file)
    return str(file)


def _extract(name: str, images: Sequence[Any], folder: Path) -> float:
    from fedtransfer.common.backbone.backbone import load_backbone
    from fedtransfer.common.features.extraction import extract, open_store

    backbone = load_backbone(name, compute="openvino")
    extract(open_store(backbone, str(folder / "warm-up")), backbone, images[:32])
    store = open_store(backbone, str(folder / "measured"))
    start = time.time()
    extract(store, backbone, images)
    return time.time() - start


def _keras_loop(name: str, images: Sequence[Any], folder: Path) -> float:
    from fedtransfer.common.backbone.backbone import load_backbone
    from fedtransfer.common.data.images import decode
    from fedtransfer.common.features.extraction import BATCH as BATCHES

    backbone = load_backbone(name, compute="tensorflow")
    size = BATCHES[backbone.resolution <= 128]
    pixels = np.concatenate([backbone.resize(decode(image.read())[None]) for image in images])
    whole = len(images) // size * size
    compute = backbone.extractor(size)
    compute(pixels[:size])
    start = time.time()
    for at in range(0, whole, size):
        compute(pixels[at : at + size])
    return (time.time() - start) * len(images) / whole


def main(arguments: Sequence[str]) -> None:
    """Print the line of one measurement."""
    began = float(os.environ.get(_BEGAN) or time.time())
    match arguments:
        case ["floor", rounds]:
            line = measure_floor(int(rounds), began)
        case ["rounds", kind, rounds]:
            line = measure_rounds(kind, int(rounds), began)
        case ["extraction", kind, network]:
            line = measure_extraction(kind, network)
    print(json.dumps(line))


if __name__ == "__main__":
    main(sys.argv[1:])
