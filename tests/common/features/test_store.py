import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtransfer.common.features.store import FeatureStore, prune_store, survey_store


def key(i: int) -> bytes:
    return hashlib.sha256(str(i).encode()).digest()


def rows(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=6), min_size=1, max_size=5))
def test_what_is_added_is_read_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store, features = FeatureStore(folder, 5), rows(31)
    for shard in shards:
        store.add([key(i) for i in shard], features[shard])
    wanted = [i for shard in shards for i in shard]
    for opened in (store, FeatureStore(folder, 5)):
        np.testing.assert_array_equal(opened.read([key(i) for i in wanted]), features[wanted])
        assert len(opened) == len(set(wanted))
    assert key(99) not in store


def test_another_process_s_shards_are_seen_after_refresh(tmp_path: Path) -> None:
    mine, other = FeatureStore(tmp_path, 5), FeatureStore(tmp_path, 5)
    other.add([key(1)], rows(1))
    assert key(1) not in mine
    mine.refresh()
    assert key(1) in mine


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_shard_is_set_aside_and_named(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "root" / "net"
    store = FeatureStore(folder, 5)
    store.add([key(1), key(2)], rows(2))
    store.add([key(3)], rows(1, 7))
    [shard] = [path for path in folder.glob("*.npy") if np.load(path).shape == (2,)]
    content = bytearray(shard.read_bytes())
    content[-3] ^= 1
    shard.write_bytes({"flip": content, "truncate": content[:-9], "empty": b""}[damage])
    [report] = survey_store(tmp_path / "root", verify=True)
    assert report.damaged == 1
    store = FeatureStore(folder, 5)
    assert key(1) not in store
    assert key(3) in store
    assert str(shard) in caplog.text
    store.add([key(1)], rows(1))
    assert key(1) in FeatureStore(folder, 5)


def test_half_written_files_are_no_part_of_the_store(tmp_path: Path) -> None:
    FeatureStore(tmp_path, 5).add([key(1)], rows(1))
    [shard] = tmp_path.glob("*.npy")
    (tmp_path / ".abc.tmp").write_bytes(shard.read_bytes()[:40])
    assert len(FeatureStore(tmp_path, 5)) == 1


def test_pruning_removes_what_is_of_no_use_and_nothing_else(tmp_path: Path) -> None:
    import os

    for name in ("net-a", "net-b"):
        FeatureStore(tmp_path / name, 5).add([key(1)], rows(1))
    abandoned, fresh, damaged = (tmp_path / "net-a" / name for name in (".old.tmp", ".new.tmp", "x.damaged"))
    for file in (abandoned, fresh, damaged):
        file.write_bytes(b"123")
    os.utime(abandoned, (0, 0))
    assert {path for path, _ in prune_store(tmp_path, dry_run=True)} == {abandoned, damaged}
    assert abandoned.exists()
    assert prune_store(tmp_path) == [(abandoned, 3), (damaged, 3)]
    assert fresh.exists()
    prune_store(tmp_path, backbone="net-b")
    assert [report.path.name for report in survey_store(tmp_path, verify=True)] == ["net-a"]
    assert len(FeatureStore(tmp_path / "net-a", 5)) == 1
