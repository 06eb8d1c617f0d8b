import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from common.backbone import load_backbone
from common.config import BUNDLED
from common.errors import UserError
from common.extraction import extract, open_store
from common.features import FeatureStore
from common.images import content_key
from common.sources import read_source


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return open_store(load_backbone(BUNDLED), str(tmp_path / "store"))


def run(store: FeatureStore, root: Path, **options):
    return extract(store, load_backbone(BUNDLED), read_source(root).images, **options)


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


def test_features_are_those_of_the_network(store: FeatureStore, folder_of_classes) -> None:
    backbone = load_backbone(BUNDLED)
    images = read_source(folder_of_classes(2)).images
    result = extract(store, backbone, images)
    from common.images import decode

    pixels = np.concatenate([backbone.resize(decode(image.read())[None]) for image in images])
    np.testing.assert_allclose(
        store.read([key for key in result.keys if key]), backbone.network(pixels, training=False), atol=2e-5
    )


def test_threads_do_not_change_bits(tmp_path: Path, folder_of_classes) -> None:
    root, backbone = folder_of_classes(40), load_backbone(BUNDLED)
    features = []
    for threads in (1, 2):
        own = open_store(backbone, str(tmp_path / f"store-{threads}"))
        result = run(own, root, threads=threads)
        features.append(own.read([key for key in result.keys if key]))
    np.testing.assert_array_equal(*features)


def test_an_image_that_vanishes_in_mid_run_is_named(store: FeatureStore, folder_of_classes) -> None:
    root = folder_of_classes(4)
    images = read_source(root).images

    def vanish(done: int, total: int) -> None:
        if done == 0:  # all are looked up, none is extracted yet
            (root / "red" / "2.png").unlink(missing_ok=True)

    result = extract(store, load_backbone(BUNDLED), images, progress=vanish)
    assert [(Path(p.path).name, p.reason) for p in result.problems] == [("2.png", "No such file or directory")]
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
        open_store(load_backbone(BUNDLED), str(tmp_path / "file"))


EXTRACT = """
import sys
from common.config import BUNDLED
import common.extraction
common.extraction.SHARD_IMAGES = 64  # many shards, so that a kill hits one being written
from pathlib import Path
from common.backbone import load_backbone
from common.extraction import extract, open_store
from common.sources import read_source
backbone = load_backbone(BUNDLED)
store = open_store(backbone, sys.argv[1])
def tell(done, total):
    if done: print(done, flush=True)
print("ready", flush=True)
result = extract(store, backbone, read_source(Path(sys.argv[2])).images, threads=1, progress=tell)
print("extracted", result.extracted, flush=True)
"""


@pytest.mark.run
def test_killed_extraction_leaves_a_right_store_and_resumes(tmp_path: Path, folder_of_classes) -> None:
    """kill -9 after different numbers of batches, a second process waiting for the lock all the while."""
    root, backbone = folder_of_classes(200), load_backbone(BUNDLED)
    images = read_source(root).images
    command = [sys.executable, "-c", EXTRACT, str(tmp_path / "store"), str(root)]
    for batches in (2, 3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready"
            for _ in range(batches):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        store = open_store(backbone, str(tmp_path / "store"))  # readable at once
        assert 0 < len(store) < len(images)
    left = len(images) - len(store)
    pair = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in pair]
    assert sorted(int(output.split()[-1]) for output in outputs) == [0, left], (
        "the second looks again once it has the lock"
    )
    reference = open_store(backbone, str(tmp_path / "reference"))
    extract(reference, backbone, images, threads=1)
    keys = [content_key(image.read()) for image in images]
    store.refresh()
    np.testing.assert_allclose(store.read(keys), reference.read(keys), atol=2e-5)


@pytest.mark.run
def test_extraction_waits_for_another_process(store: FeatureStore, folder_of_classes) -> None:
    root = folder_of_classes(3)
    with store.lock:
        command = [sys.executable, "-c", EXTRACT, str(store.folder.parent), str(root)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        time.sleep(2)
        assert process.poll() is None
        assert len(FeatureStore(store.folder, store.width)) == 0
    assert process.communicate(timeout=120)[0].split()[-1] == "9"
