"""What an image's features depend on: its pixels, and nothing next to it.

The privacy of an image rests on that: if it changed the features of others, to leave it out would
change more than its own row.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import forked
import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import class_folders

from fedtransfer.common.backbone.backbone import Backbone, configured_backbone, load_backbone
from fedtransfer.common.compute import OPENVINO, TENSORFLOW, engine_of
from fedtransfer.common.config.config import BUNDLED, RunConfig
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.features.extraction import extract, open_store
from fedtransfer.common.tensorflow import GPUS

BATCH, SIDE = 16, 32


def images(n: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0, 255, (n, SIDE, SIDE, 3)).astype(np.float32)


def by(engine: str) -> Backbone:
    return load_backbone(BUNDLED, resolution=SIDE, compute=engine)


def test_both_engines_give_the_same_features() -> None:
    by_openvino, by_tensorflow = (
        by(engine).extractor(BATCH)(images(BATCH)) for engine in (OPENVINO, TENSORFLOW)
    )
    np.testing.assert_allclose(by_openvino, by_tensorflow, atol=1e-5)
    assert by(OPENVINO).fingerprint == by(TENSORFLOW).fingerprint


@pytest.mark.parametrize("network", ["bundled", "wide"])
def test_by_openvino_an_image_has_the_same_bits_at_every_place_and_next_to_any_other(network: str) -> None:
    backbone = by(OPENVINO) if network == "bundled" else load_backbone(BUNDLED, resolution=64)
    side = backbone.resolution
    one = np.random.default_rng(0).uniform(0, 255, (side, side, 3)).astype(np.float32)
    compute = backbone.extractor(BATCH)
    seen = set()
    for place in range(BATCH):
        for filling in (0.0, 255.0, 1e30, None):
            batch = np.random.default_rng(place).uniform(0, 255, (BATCH, side, side, 3)).astype(np.float32)
            if filling is not None:
                batch[:] = filling
            batch[place] = one
            seen.add(compute(batch)[place].tobytes())
    assert len(seen) == 1


def test_by_openvino_the_number_of_threads_does_not_change_a_bit() -> None:
    batches = [images(BATCH, seed) for seed in range(6)]
    results = []
    for streams in (1, 2, 4):
        with ThreadPoolExecutor(streams) as pool:
            results.append(np.stack(list(pool.map(by(OPENVINO).extractor(BATCH, streams), batches))))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("engine", [OPENVINO, TENSORFLOW])
def test_under_privacy_of_images_leaving_one_out_changes_no_other(engine: str, tmp_path: Path) -> None:
    config = RunConfig(
        dp="image", epsilon=2.0, weighting="uniform", classes="declared", class_names="red,green,blue",
        compute=engine, resolution=SIDE,
    )  # fmt: skip
    source = read_source(class_folders(tmp_path / "images", 0)).images
    features = {}
    for name, chosen in {"all": source, "without": source[:4] + source[5:]}.items():
        backbone = configured_backbone(config)
        store = open_store(backbone, str(tmp_path / name))
        keys = [key for key in extract(store, backbone, chosen, threads=2).keys if key]
        features[name] = dict(zip(keys, store.read(keys), strict=True))
    assert features["without"]
    for key, row in features["without"].items():
        np.testing.assert_array_equal(row, features["all"][key])


def test_tensorflow_says_that_it_computes_private_images_one_by_one() -> None:
    settings = {
        "dp": "image",
        "epsilon": 2.0,
        "weighting": "uniform",
        "classes": "declared",
        "class_names": "a,b",
    }
    private = configured_backbone(RunConfig(**settings, compute=TENSORFLOW))
    assert private.alone
    assert "by itself" in private.notes[-1]
    assert not configured_backbone(RunConfig(compute=TENSORFLOW)).alone
    assert not configured_backbone(RunConfig(**settings, compute=OPENVINO)).alone


def test_what_computes_differently_has_a_store_of_its_own(tmp_path: Path) -> None:
    kinds = [by(OPENVINO), by(TENSORFLOW), replace(by(TENSORFLOW), alone=True),
             load_backbone(BUNDLED, resolution=SIDE, fit="pad", compute=OPENVINO)]  # fmt: skip
    assert len({open_store(backbone, str(tmp_path)).folder for backbone in kinds}) == len(kinds)


def test_openvino_computes_unless_tensorflow_sees_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine_of(TENSORFLOW) == TENSORFLOW
    assert engine_of("auto") == (TENSORFLOW if GPUS else OPENVINO)
    monkeypatch.setattr("fedtransfer.common.compute.find_spec", lambda name: None)
    assert engine_of("auto") == TENSORFLOW


FIRST_CALLS = """
import faulthandler, sys, threading
faulthandler.dump_traceback_later(120, exit=True)  # a thread that waits with Python's lock stops all others
sys.setswitchinterval(1e-6)
import numpy as np
from fedtransfer.common.backbone.backbone import load_backbone
from fedtransfer.common.config.config import BUNDLED
compute = load_backbone(BUNDLED, resolution=32, compute="openvino").extractor(1, 4)
barrier = threading.Barrier(4)

def first_call():
    barrier.wait()
    compute(np.zeros((1, 32, 32, 3), np.float32))

threads = [threading.Thread(target=first_call) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


@pytest.mark.process
def test_the_first_calls_of_several_threads_do_not_wait_for_each_other() -> None:
    """One process in six hung."""
    for _ in range(4):
        forked.run("-c", FIRST_CALLS, modules=forked.COMMAND_LINE, check=True)


SIGNAL = """
import gc, signal
from fedtransfer.common.backbone.backbone import load_backbone
from fedtransfer.common.config.config import BUNDLED
first = load_backbone(BUNDLED, resolution=32, compute="openvino").extractor(1)
second = load_backbone(BUNDLED, resolution=32, compute="openvino").extractor(1)
del first
gc.collect()
del second
gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("heard")
"""


@pytest.mark.process
def test_ctrl_c_is_heard_after_networks_were_loaded_and_freed() -> None:
    """It was a segmentation fault: Python handles signals on a stack that OpenVINO sets up."""
    done = forked.run("-c", SIGNAL, modules=forked.COMMAND_LINE, check=True)
    assert "heard" in done.stdout
