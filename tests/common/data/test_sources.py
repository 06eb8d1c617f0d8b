from pathlib import Path

import numpy as np
import pytest
from pictures import picture

from fedtransfer.common.data.images import Image, decode
from fedtransfer.common.data.sources import natural_order, read_source, write_manifest
from fedtransfer.common.errors import UserError


def test_class_folders(folder_of_classes) -> None:
    root = folder_of_classes(3)
    (root / "red" / "deeper").mkdir()
    picture((1, 2, 3), 99).save(root / "red" / "deeper" / "x.png")
    (root / "red" / ".hidden").write_text("no")
    (root / "notes.txt").write_text("no")
    (root / "empty").mkdir()
    source = read_source(root)
    assert source.classes == ("blue", "green", "red")
    assert len(source.images) == 10
    assert {image.split for image in source.images} == {""}
    assert {(Path(p.path).name, p.reason) for p in source.problems} == {
        ("notes.txt", "not inside a class folder"),
        ("empty", "class folder without files"),
    }


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("train", "test"), {"development", "test"}),
        (("train", "val", "test"), {"train", "validation", "test"}),
    ],
)
def test_split_folders(tmp_path: Path, folders, expected) -> None:
    for folder in folders:
        (tmp_path / folder / "a b").mkdir(parents=True)
        picture((9, 9, 9), 1).save(tmp_path / folder / "a b" / "1.png")
    source = read_source(tmp_path)
    assert {image.split for image in source.images} == expected
    assert source.classes == ("a b",)


def test_manifest(tmp_path: Path) -> None:
    picture((9, 9, 9), 1).save(tmp_path / "1.png")
    (tmp_path / "m.csv").write_text("path,label,split,group\n1.png,Übel 1,train,p1\n2.png,b,test,\n", "utf-8")
    images = read_source(tmp_path / "m.csv").images
    assert images[0] == Image(str(tmp_path / "1.png"), "Übel 1", "development", "p1")
    assert images[1] == Image(str(tmp_path / "2.png"), "b", "test", "")


def test_written_manifest_reads_back_the_same(tmp_path: Path) -> None:
    splits = ["", "development", "train", "validation", "test"]
    images = [
        Image(str(tmp_path / f"i, {k}.png"), f'label "{k}"\n', split, f"g{k}")
        for k, split in enumerate(splits)
    ]
    for subset in (
        images,
        images[2:3],
        images[1:3],
    ):  # also where no validation image happens to be among them
        write_manifest(tmp_path / "out" / "m.csv", subset)
        assert list(read_source(tmp_path / "out" / "m.csv").images) == subset


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,label\na,b\n", ["no column path", "path,label[,split][,group]"]),
        ("path,label\n,b\n", ["line 2", "must not be empty"]),
        ("path,label,split\na,b,holdout\n", ["line 2", "'holdout'", "train, validation, test"]),
        ("path,label\n", ["found no image"]),
    ],
)
def test_bad_manifests(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(UserError) as caught:
        read_source(tmp_path / "m.csv")
    assert all(word in str(caught.value) for word in words), caught.value


def test_archive(tmp_path: Path) -> None:
    x = np.arange(5 * 8 * 8 * 3, dtype=np.uint8).reshape(5, 8, 8, 3)
    path = tmp_path / "a.npz"
    np.savez(
        path, x_train=x[:3], y_train=[[1], [0], [1]], x_test=x[3:], y_test=[0, 1], class_names=["cat", "dog"]
    )
    source = read_source(path)
    assert [(i.label, i.split) for i in source.images] == [
        ("dog", "development"),
        ("cat", "development"),
        ("dog", "development"),
        ("cat", "test"),
        ("dog", "test"),
    ]
    np.testing.assert_array_equal(decode(source.images[4].read()), x[4])
    grey = tmp_path / "grey.npz"
    np.savez(grey, x_train=x[..., 0], y_train=[10, 2, 1, 2, 10])
    source = read_source(grey)
    assert source.classes == ("1", "2", "10")
    assert decode(source.images[0].read()).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros(3)}, ["no array x_train or y_train", "it has x"]),
        ({"x_train": np.zeros((2, 4, 4)), "y_train": [0, 1]}, ["x_train is float64", "uint8"]),
        ({"x_train": np.zeros((2, 4, 4), "u1"), "y_train": [0]}, ["y_train", "expected 2 whole numbers"]),
        (
            {"x_train": np.zeros((2, 4, 4), "u1"), "y_train": [0, 7], "class_names": ["a", "b"]},
            ["labels from 0 to 7", "2 names"],
        ),
        ({"x_train": np.array([{}]), "y_train": [0]}, ["not a readable .npz archive of plain arrays"]),
    ],
)
def test_bad_archives(tmp_path: Path, arrays: dict, words: list[str]) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError) as caught:
        read_source(tmp_path / "a.npz")
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none", "no such file"),
        ("a.png", "expected a folder of class folders"),
        ("empty", "found no image"),
        ("bad.npz", "not a readable .npz"),
    ],
)
def test_sources_that_are_none(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "bad.npz").write_bytes(b"PK not really")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=words):
        read_source(tmp_path / name)


def test_link_loops_end(folder_of_classes) -> None:
    root = folder_of_classes(2)
    (root / "red" / "loop").symlink_to(root / "red")
    assert len(read_source(root).images) == 6


def test_names_sort_as_people_sort_them() -> None:
    assert natural_order(["img10", "img9", "Ärzte", "b", "img9"]) == ("b", "img9", "img10", "Ärzte")
