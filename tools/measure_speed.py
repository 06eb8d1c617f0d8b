"""Seconds a round on a workload of other frameworks, and images a second through the backbone.

    python tools/measure_speed.py [ROUNDS]       # plain, our defaults, with differential privacy
    python tools/measure_speed.py extraction     # next to a bare loop over decoded batches

Each measurement runs in a new process, whose start and imports count, and prints a line of JSON.

There are K = 10 clients with N = 500 feature vectors of width D = 2048 and labels of C = 10
classes; one softmax layer from zeros; one local epoch of SGD in batches of 32 at rate 0.005; all
clients in every round. A run uses all its parts: manifests, feature store, ClientApp, protocol,
in-process engine, admission, run folder.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.client.app import app as client_app
from fedtransfer.common.backbone.backbone import configured_backbone, load_backbone
from fedtransfer.common.config.config import BUNDLED, RunConfig
from fedtransfer.common.data.images import Image, content_key, decode
from fedtransfer.common.data.sources import read_source, write_manifest
from fedtransfer.common.features.extraction import BATCH, extract, open_store
from fedtransfer.common.features.feature_map import feature_map
from fedtransfer.common.head.head import load_head
from fedtransfer.common.support.processes import CORES
from fedtransfer.common.tensorflow import keras
from fedtransfer.server.app import make_app
from fedtransfer.server.callbacks import Callback, Round
from fedtransfer.simulations.data.datasets import resolve_data
from fedtransfer.simulations.engines.inprocess import SimulatedSite, run_in_process

CLIENTS, IMAGES, WIDTH, CLASSES = 10, 500, 2048, 10
TEST = 99  # the number of the client whose data are the test set


def client_data(k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return features (N, D), as after a ReLU, and labels (N,) from a linear teacher."""
    rng = np.random.default_rng(100 + k)
    teacher = np.random.default_rng(0).normal(size=(WIDTH, CLASSES))
    x = np.maximum(rng.normal(size=(IMAGES, WIDTH)), 0).astype(np.float32)
    return x, (x @ teacher).argmax(1)


PLAIN: dict[str, Any] = {
    "server_learning_rate": 1.0,
    "server_momentum": 0.0,
    "learning_rate": 0.005,
    "standardise": "none",
    "normalise": False,
}
_PRIVATE = {
    **PLAIN,
    "weighting": "uniform",
    "noise_multiplier": 1.0,
    "classes": "declared",
    "class_names": ",".join(map(str, range(CLASSES))),
}
KINDS: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "defaults": {},
    "site": {**_PRIVATE, "dp": "site"},
    "image": {**_PRIVATE, "dp": "image", "image_rate": 32 / IMAGES, "batch_size": 32, "local_steps": 16},
}

_SYSTEMS = {
    "plain": "fedtransfer",
    "defaults": "fedtransfer, defaults",
    "site": "fedtransfer, differential privacy of sites",
    "image": "fedtransfer, differential privacy of images",
}


def measure(rounds: int, kind: str, began: float) -> dict[str, Any]:
    """Run the workload; return the measurements that the scripts of other frameworks report.

    Args:
        rounds: rounds of training.
        kind: ``plain``; ``defaults``, with our optimizer, normalisation, validation split and
            scoring in every round; ``site`` or ``image``: the plain one under differential privacy
            of that unit.
        began: ``time.time()`` when the process started, so that imports count.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config = RunConfig(
            data="benchmark", sites=CLIENTS, rounds=rounds, backbone=str(_backbone(root)), resolution=32,
            out=str(root / "run"), store=str(root / "store"), **KINDS[kind],
        )  # fmt: skip
        sites = _sites(root, config, "" if kind == "defaults" else "train")
        ends = [time.time()]

        class Clock(Callback):
            def on_round(self, record: Round) -> None:
                ends.append(time.time())

        app = make_app([Clock()])
        run_in_process(app, client_app, sites, config.to_flat(), config.threads or CORES)
        total = time.time() - began
        head, _, _ = load_head(root / "run" / "head.npz")
        mapped = feature_map(config, configured_backbone(config))
    x, y = client_data(TEST)
    x = mapped(x)
    seconds = np.diff(ends)[:rounds]
    return {
        "system": _SYSTEMS[kind],
        "total_s": round(total, 2),
        "first_round_s": round(float(seconds[0]), 3),
        "steady_round_s": round(float(np.median(seconds[1:])), 4),
        "accuracy": round(float(((x @ head[0] + head[1]).argmax(1) == y).mean()), 4),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        // (1024 if sys.platform != "darwin" else 1024**2),
    }


def _backbone(root: Path) -> Path:
    """Save a network as wide as the workload's features; no image passes through it."""
    image = keras.Input((32, 32, 3))
    wide = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(WIDTH, 1, name="wide")(image))
    keras.Model(image, wide).save(root / "wide.keras")
    return root / "wide.keras"


def _sites(root: Path, config: RunConfig, split: str) -> list[SimulatedSite]:
    """Write each client's manifest, and store its features under the keys of dummy images."""
    store = open_store(configured_backbone(config), config.store)
    sites = []
    for k in range(CLIENTS):
        x, y = client_data(k)
        dummies = np.zeros((IMAGES, 1, 4, 3), np.uint8)
        dummies[:, 0, :, 0] = np.stack(
            [np.full(IMAGES, k), np.arange(IMAGES) // 256, np.arange(IMAGES) % 256, y], axis=1
        )
        archive = root / f"client-{k}.npz"
        np.savez(archive, x_train=dummies, y_train=y)
        store.add([content_key(image) for image in dummies], x)
        manifest = root / f"client-{k}.csv"
        write_manifest(
            manifest, [Image(f"{archive}#x_train/{i}", str(label), split) for i, label in enumerate(y)]
        )
        sites.append(SimulatedSite(f"client-{k}", {"data": str(manifest), "state": str(root / f"state-{k}")}))
    return sites


def measure_extraction(kind: str) -> dict[str, Any]:
    """Return images a second over the demo images, in this process.

    ``fedtransfer`` reads, decodes, resizes, extracts and stores; ``bare`` runs the same compiled
    network over decoded and resized batches, with TensorFlow's own threads.
    """
    backbone = load_backbone(BUNDLED)
    images = read_source(resolve_data("cifar10-demo")).images
    if kind == "bare":
        batch = BATCH[True]
        pixels = np.concatenate([backbone.resize(decode(image.read())[None]) for image in images])
        compute = backbone.extractor(batch)
        batches = [pixels[at : at + batch] for at in range(0, len(images) - batch + 1, batch)]
        compute(batches[0])
        began = time.time()
        for one in batches:
            compute(one)
        return {"system": "bare loop", "images_per_s": round(len(batches) * batch / (time.time() - began), 1)}
    with tempfile.TemporaryDirectory() as folder:
        extract(open_store(backbone, folder + "/warm-up"), backbone, images[:128])
        store = open_store(backbone, folder + "/measured")
        began = time.time()
        extract(store, backbone, images)
        return {"system": "fedtransfer", "images_per_s": round(len(images) / (time.time() - began), 1)}


def measure_apart(*arguments: str, **environment: str) -> dict[str, Any]:
    """Measure in a new process; return its line."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **environment}
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main(arguments: list[str]) -> None:
    """Print a line for each measurement, or the line of one process."""
    match arguments:
        case [rounds, kind, began]:
            print(json.dumps(measure(int(rounds), kind, float(began))))
        case ["extraction", kind]:
            print(json.dumps(measure_extraction(kind)))
        case ["extraction"]:
            print(json.dumps(measure_apart("extraction", "fedtransfer")))
            print(json.dumps(measure_apart("extraction", "bare", FEDTRANSFER_THREADS_PER_OPERATION="0")))
        case _:
            plain: dict[str, Any] = {}
            for kind in KINDS:
                line = measure_apart(*(arguments or ["10"]), kind, str(time.time()))
                plain = plain or line
                if kind in ("site", "image"):
                    line["times_plain"] = round(line["steady_round_s"] / plain["steady_round_s"], 2)
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
