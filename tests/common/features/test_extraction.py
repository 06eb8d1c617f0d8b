import shutil
from functools import partial
from pathlib import Path

import forked
import numpy as np
import pytest
from small_network import shared_backbone, small_backbone
from waiting import patient, wait_until

from fedtransfer.common.backbone.backbone import load_backbone
from fedtransfer.common.config.config import BUNDLED
from fedtransfer.common.data.images import content_key
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.extraction import extract, open_store
from fedtransfer.common.features.store import FeatureStore


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return open_store(shared_backbone(), str(tmp_path / "store"))


def run(store: FeatureStore, root: Path, **options):
    return extract(store, shared_backbone(), read_source(root).images, **options)


def test_an_image_passes_through_the_backbone_once_ever(store: FeatureStore, folder_of_classes) -> None:
    root = folder_of_classes(5)
    shutil.copy(root / "red" / "0.png", root / "blue" / "copy.png")
    calls: list[tuple[int, int]] = []
    first = run(store, root, progress=lambda *done: calls.append(done))
    assert (first.extracted, first.reused, first.problems) == (15, 1, ())
    assert calls[-1] == (15, 15)
    again = run(FeatureStore(store.folder, store.width), root)
    assert (again.extracted, again.reused) == (0, 16)
    assert again.keys == first.keys
    folder_of_classes(7)
    assert run(store, root).extracted == 6


def test_features_are_those_of_the_network(tmp_path: Path, folder_of_classes) -> None:
    backbone = load_backbone(BUNDLED)
    store, images = open_store(backbone, str(tmp_path / "store")), read_source(folder_of_classes(2)).images
    result = extract(store, backbone, images)
    from fedtransfer.common.data.images import decode

    pixels = np.concatenate([backbone.resize(decode(image.read())[None]) for image in images])
    np.testing.assert_allclose(
        store.read([key for key in result.keys if key]), backbone.network(pixels, training=False), atol=2e-5
    )


def test_threads_do_not_change_bits(
    tmp_path: Path, folder_of_classes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedtransfer.common.features.extraction.BATCH", {True: 8})
    root, backbone = folder_of_classes(10), load_backbone(BUNDLED)
    features = []
    for threads in (1, 2):
        own = open_store(backbone, str(tmp_path / f"store-{threads}"))
        result = extract(own, backbone, read_source(root).images, threads=threads)
        features.append(own.read([key for key in result.keys if key]))
    np.testing.assert_array_equal(*features)


def test_an_image_that_vanishes_in_mid_run_is_named(store: FeatureStore, folder_of_classes) -> None:
    root = folder_of_classes(4)
    images = read_source(root).images

    def vanish(done: int, total: int) -> None:
        if done == 0:  # all are looked up, none is extracted yet
            (root / "red" / "2.png").unlink(missing_ok=True)

    result = extract(store, shared_backbone(), images, progress=vanish)
    assert [(Path(p.path).name, p.reason) for p in result.problems] == [
        ("2.png", "No such file or directory")
    ]
    assert result.extracted == 11
    assert sum(key is None for key in result.keys) == 1


def test_images_that_cannot_be_read_are_listed_and_skipped(store: FeatureStore, folder_of_classes) -> None:
    root = folder_of_classes(3)
    (root / "red" / "bad.jpg").write_bytes(b"not at all")
    (root / "red" / "copy-of-bad.jpg").write_bytes(b"not at all")
    (root / "red" / "empty.png").write_bytes(b"")
    (root / "red" / "gone.png").symlink_to(root / "nowhere")
    result = run(store, root)
    assert (result.extracted, result.keys.count(None)) == (9, 4)
    assert {(Path(p.path).name, p.reason) for p in result.problems} == {
        ("bad.jpg", "not an image, or of a kind that Pillow cannot read"),
        ("copy-of-bad.jpg", "not an image, or of a kind that Pillow cannot read"),
        ("empty.png", "the file is empty"),
        ("gone.png", "No such file or directory"),
    }
    with pytest.raises(UserError, match=r"(bad|empty|gone).*--strict stops"):
        run(store, root, strict=True)


def test_a_store_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"feature store .*file.*--store"):
        open_store(shared_backbone(), str(tmp_path / "file"))


EXTRACT = """
import logging, os, signal, sys
from pathlib import Path

import fedtransfer.common.features.extraction, fedtransfer.common.support.files
from fedtransfer.common.features.extraction import extract, open_store
from fedtransfer.common.data.sources import read_source

sys.path.append("tests")
from small_network import small_backbone

fedtransfer.common.features.extraction.BATCH = {True: 8}
fedtransfer.common.features.extraction.SHARD_IMAGES = 8  # a shard a batch
at, calls = sys.argv[3], 0

def stop(*arguments):  # before it does this for the third time
    global calls
    calls += 1
    if calls == 3:
        print("stopped", flush=True)
        signal.pause()
    return function(*arguments)

backbone = small_backbone()
store = open_store(backbone, sys.argv[1])
if at:
    place = os if at == "replace" else fedtransfer.common.support.files
    function = getattr(place, at)
    setattr(place, at, stop)
logging.basicConfig(stream=sys.stdout, format="%(message)s")
logging.getLogger("filelock").setLevel(logging.DEBUG)  # it says when it does not get a lock
result = extract(store, backbone, read_source(Path(sys.argv[2])).images, threads=1)
print("extracted", result.extracted, flush=True)
"""


def extracting(tmp_path: Path, images: Path, stop_before: str = "", name: str = "log") -> forked.Process:
    """Start another process that extracts; it stops before its third call of a function."""
    words = ("-c", EXTRACT, str(tmp_path / "store"), str(images), stop_before)
    return forked.start(*words, output=tmp_path / name)


def contains(log: Path, words: str) -> bool:
    return words in log.read_text()


def extracted(process: forked.Process) -> int:
    assert process.wait(patient(120)) == 0, process.said()
    return int(process.said().split()[-1])


@pytest.mark.process
def test_killed_extraction_leaves_a_right_store_and_resumes(tmp_path: Path, folder_of_classes) -> None:
    """kill -9 while a shard is written, and when it is there but not known; then two at a time."""
    root, backbone = folder_of_classes(20), small_backbone()
    images = read_source(root).images
    store, done = open_store(backbone, str(tmp_path / "store")), 0
    for stop_before, shards in (("replace", 2), ("_sync_folder", 3)):
        log = tmp_path / f"log-{stop_before}"
        process = extracting(tmp_path, root, stop_before, log.name)
        wait_until(partial(contains, log, "stopped"), "it writes its third shard", process.died)
        process.kill()
        process.wait()
        store.refresh()  # readable at once
        done += 8 * shards
        assert len(store) == done
    pair = [extracting(tmp_path, root, name=f"log-{number}") for number in range(2)]
    assert sorted(map(extracted, pair)) == [0, 60 - done], "the second looks again once it has the lock"
    reference = open_store(backbone, str(tmp_path / "reference"))
    extract(reference, backbone, images, threads=1)
    keys = [content_key(image.read()) for image in images]
    store.refresh()
    np.testing.assert_allclose(store.read(keys), reference.read(keys), atol=2e-5)


@pytest.mark.process
def test_extraction_waits_for_another_process(tmp_path: Path, folder_of_classes) -> None:
    root = folder_of_classes(3)
    store = open_store(small_backbone(), str(tmp_path / "store"))
    with store.lock:
        process = extracting(tmp_path, root)
        wait_until(lambda: process.said().count("not acquired") > 1, "it waits for the lock", process.died)
        store.refresh()
        assert len(store) == 0
    assert extracted(process) == 9
