from pathlib import Path

import numpy as np
import pytest

from fedtransfer.common.data.sources import read_source, write_manifest
from fedtransfer.common.errors import UserError
from fedtransfer.common.tensorflow import keras
from fedtransfer.simulations.data.datasets import read_sites, resolve_data


def test_demo_images_are_balanced() -> None:
    source = read_source(resolve_data("cifar10-demo"))
    assert source.classes == (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    for split, each in (("development", 200), ("test", 100)):
        labels = [image.label for image in source.images if image.split == split]
        assert [labels.count(name) for name in source.classes] == [each] * 10


def test_downloaded_data_sets_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []

    def load_data():
        calls.append(1)
        x = np.zeros((4, 28, 28), np.uint8)
        return (x, np.arange(4)), (x[:2], np.arange(2))

    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", load_data)
    for _ in range(2):
        source = read_source(resolve_data("fashion-mnist"))
    assert calls == [1]
    assert source.classes == ("Dress", "Pullover", "T-shirt/top", "Trouser")


def test_no_network_says_where_the_files_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fail():
        raise OSError("URL fetch failure")

    monkeypatch.setattr(keras.datasets.cifar100, "load_data", fail)
    with pytest.raises(UserError, match=r"(?s)cifar100: .*URL fetch failure.*\.npz"):
        resolve_data("cifar100")


def test_sites_are_the_folders(folder_of_classes, tmp_path: Path) -> None:
    for site in ("b", "a"):
        folder_of_classes(2, f"sites/{site}")
    sites, problems = read_sites(tmp_path / "sites")
    assert list(sites) == ["a", "b"]
    assert problems == ()
    with pytest.raises(UserError, match="not a folder"):
        read_sites(tmp_path / "sites" / "a" / "red" / "0.png")


def test_without_folders_sites_are_the_manifests_and_archives(folder_of_classes, tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    write_manifest(tmp_path / "sites" / "north.csv", read_source(folder_of_classes(2)).images)
    np.savez(tmp_path / "sites" / "south.npz", x_train=np.zeros((3, 8, 8), np.uint8), y_train=[0, 1, 1])
    (tmp_path / "sites" / ".hidden.npz").write_bytes(b"")
    sites, problems = read_sites(tmp_path / "sites")
    assert {name: len(source.images) for name, source in sites.items()} == {"north": 6, "south": 3}
    assert problems == ()
    (tmp_path / "sites" / "south.npz").unlink()
    with pytest.raises(UserError, match="has 0 folders in it; expected one for each of at least two sites"):
        read_sites(tmp_path / "sites")
