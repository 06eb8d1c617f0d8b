"""Features files: four kinds, one content; and what is wrong with those that are refused."""

import json
from pathlib import Path
from typing import Any

import feature_files
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_files import CARD, KINDS, vectors, write

from fedtransfer.common.data import feature_table as tables
from fedtransfer.common.data.feature_card import FeatureCard, card_of
from fedtransfer.common.data.feature_table import feature_table, holds_features
from fedtransfer.common.data.feature_writer import write_features
from fedtransfer.common.data.images import content_key
from fedtransfer.common.data.sources import read_source, write_manifest
from fedtransfer.common.errors import UserError

X = vectors(20)


def read(path: Path) -> np.ndarray:
    return np.stack([image.read() for image in read_source(path).images])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_program_is_read(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"f.{kind}", X, group=[f"patient {i // 2}" for i in range(20)],
                 split=["train", "Validation", "test", "", "val"] * 4)  # fmt: skip
    source = read_source(path)
    first, second, *_ = source.images
    assert first.path == f"{path}#id=slide/0.svs"
    assert (first.label, first.split, first.group) == ("a", "train", "patient 0")
    assert (second.split, source.classes, source.problems) == ("validation", ("a", "b", "c"), ())
    assert source.card == FeatureCard("uni2-h", 4, "1.0")
    np.testing.assert_array_equal(read(path), X)
    assert first.key() == content_key(X[0])


@pytest.mark.parametrize("kind", [*KINDS, "hdf5"])
def test_what_is_written_is_read(tmp_path: Path, kind: str) -> None:
    """To the last bit, in two blocks, with texts of all sorts."""
    path, x = tmp_path / f"f.{kind}", np.random.default_rng(0).normal(0, 1e-3, (20, 4)).astype(np.float32)
    ids = [f'{i} "ü, \n' for i in range(20)]
    card = FeatureCard("net", 4, "ab" * 32, 224, 20)
    write_features(path, card, {"id": ids, "label": ["é", "b"] * 10}, iter([x[:16], x[16:]]))
    assert feature_table(str(path)).ids == ids
    assert feature_table(str(path)).card == card
    np.testing.assert_array_equal(read(path), x)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_read_in_any_order_and_in_blocks(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_BLOCK_BYTES", 3 * 4 * 4)  # three rows, not a divisor of a row group
    images = read_source(write(tmp_path / f"f.{kind}", X)).images
    for order in (range(20), range(19, -1, -1), np.random.default_rng(0).permutation(20)):
        for i in order:
            np.testing.assert_array_equal(images[i].read(), X[i])


def test_columns_of_numbers_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    wide = vectors(5, 12)
    frame = pd.DataFrame(wide, columns=[str(i) for i in range(12)])[[str(i) for i in (11, *range(11))]]
    frame["id"], frame["label"] = range(5), [1.0, 2.0, 1.0, 2.0, 1.0]
    card = json.dumps(CARD | {"width": 12})
    table = pa.Table.from_pandas(frame)
    metadata = {**table.schema.metadata, "fedtransfer": card}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "f.parquet")
    (tmp_path / "f.csv").write_text(f"# {card}\n{frame.to_csv(index=False)}")
    for name in ("f.parquet", "f.csv"):
        np.testing.assert_array_equal(read(tmp_path / name), wide)
    assert read_source(tmp_path / "f.parquet").classes == ("1", "2")


@pytest.mark.parametrize("dtype", ["float16", "float64", "int16"])
def test_other_numbers_become_float32(tmp_path: Path, dtype: str) -> None:
    x = (10 * X).astype(dtype)
    np.savez(tmp_path / "f.npz", features=np.asfortranarray(x), fedtransfer=json.dumps(CARD),
             **feature_files.columns(20))  # fmt: skip
    np.testing.assert_array_equal(read(tmp_path / "f.npz"), x.astype(np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_go_through_a_manifest_whatever_their_ids(tmp_path: Path, kind: str) -> None:
    ids = ["a//b/../c/", "f.npz#x/3", "#id=", "ä \n.parquet#id=9", *map(str, range(16))]
    images = read_source(write(tmp_path / f"f.{kind}", X, id=ids)).images
    write_manifest(tmp_path / "images.csv", images)
    again = read_source(tmp_path / "images.csv").images
    assert again == images
    np.testing.assert_array_equal(np.stack([image.read() for image in again]), X)


def test_a_row_that_is_gone_is_a_problem_of_that_row(tmp_path: Path) -> None:
    images = read_source(write(tmp_path / "f.npz", X)).images
    write(tmp_path / "f.npz", X[:9])
    with pytest.raises(OSError, match="no row with this id any more"):
        images[12].key()


def test_numbers_beyond_float32_are_infinite(tmp_path: Path) -> None:
    x = X.astype(np.float64)
    x[3, 2] = 1e39
    for kind in KINDS:
        assert np.isinf(read(write(tmp_path / f"f.{kind}", x))[3, 2])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"id": ["x"] * 20}, "the id 'x' is there twice, in rows 1 and 2"),
        ({"id": ["a", *[""] * 19]}, "row 2: the id is missing"),
        ({"id": None}, "no id in it; expected an id for each row"),
        ({"label": None}, "no label in it; expected the class of each row"),
        ({"label": ["a", "b", "", *"b" * 17]}, "row 3: the label is missing"),
        ({"split": ["fish"] * 20}, "row 1: split 'fish'; expected train, validation, test or nothing"),
        ({"card": None}, 'it does not say what made its features; expected a JSON text under the name "fed'),
        ({"card": "uni2-h"}, "what it says of its features is not JSON"),
        ({"card": "[3]"}, r"got \[3\] as what made its features"),
        ({"card": "[" * 10**5}, "what it says of its features is not JSON"),
        ({"card": {"name": "uni2-h", "width": 4}}, "has no sha256 or version; expected a JSON text"),
        ({"card": {"version": "1"}}, "has no name, no width; expected"),
        ({"card": CARD | {"width": "4"}}, "got width '4' of what made its features"),
        ({"card": CARD | {"width": True}}, "got width True of what made its features"),
        ({"card": CARD | {"width": -4}}, "has no width; expected"),
        ({"card": CARD | {"sha256": "12"}}, "got sha256 '12'; expected 64 hexadecimal digits"),
        ({"card": CARD | {"width": 5}},
         "its features have width 4, but it says that uni2-h made them, with width 5"),
        ({"card": CARD | {"rows": 30}}, "20 rows, but it says that it has 30; was the file cut short?"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_contents_are_refused_with_the_reason(
    tmp_path: Path, kind: str, more: dict[str, Any], words: str
) -> None:
    path = write(tmp_path / f"f.{kind}", X, **more)
    if kind == "csv" and {"id", "card"} & more.keys() and (more.get("id", 0) or more.get("card", 0)) is None:
        path.write_text(path.read_text() if path.read_text().startswith("#") else f"#\n{path.read_text()}")
        words = words if "id" in more else "what it says of its features is not JSON"
    with pytest.raises(UserError, match=words) as refusal:
        read_source(path)
    assert str(refusal.value).startswith(str(path))


@pytest.mark.parametrize("kind", KINDS)
def test_no_row_and_no_byte(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UserError, match=r"no row in it|features are null"):
        read_source(write(tmp_path / f"f.{kind}", X[:0]))
    (tmp_path / f"e.{kind}").touch()
    with pytest.raises(UserError, match=r"the file is empty|not a readable .npz|no column"):
        read_source(tmp_path / f"e.{kind}")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, kind: str, share: float) -> None:
    path = write(tmp_path / f"f.{kind}", vectors(500), CARD | {"rows": 500})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"damaged, or cut short|cut short|not a readable .npz"):
        read(path)


@pytest.mark.parametrize("kind", ["npz", "h5", "parquet"])
def test_flipped_bits_of_what_was_exported_are_noticed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"f.{kind}"
    write_features(path, FeatureCard("net", 4, "1", rows=20), feature_files.columns(20), iter([X]))
    whole = bytearray(path.read_bytes())
    at = whole.find(X[10].tobytes())
    assert at > 0
    whole[at] ^= 1
    path.write_bytes(whole)
    with pytest.raises(UserError, match="damaged, or cut short"):
        read(path)


def test_text_where_numbers_belong(tmp_path: Path) -> None:
    text = X.astype(str)
    with pytest.raises(UserError, match=r"features are <U\d+ of shape \(20, 4\); expected real numbers"):
        read_source(write(tmp_path / "f.npz", text))
    with pytest.raises(UserError, match="features are object of shape"):
        read_source(write(tmp_path / "f.h5", text.astype(object)))
    with pytest.raises(UserError, match="features are of type string; expected real numbers"):
        read_source(write(tmp_path / "f.parquet", text))
    text[6, 2] = "n/a"
    with pytest.raises(UserError, match="row 7: got 'n/a' as feature 2; expected a number"):
        read_source(write(tmp_path / "f.csv", text))
    with pytest.raises(UserError, match=r"of shape \(20,\); expected real numbers of shape \(n, d\)"):
        read_source(write(tmp_path / "one.npz", X[:, 0]))


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", features=X, **feature_files.columns(20, label=np.array([{}] * 20)),
             fedtransfer=json.dumps(CARD))  # fmt: skip
    with pytest.raises(UserError, match="Object arrays cannot be loaded"):
        read_source(tmp_path / "f.npz")


def test_no_features_in_it(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["embeddings"] = X
    with pytest.raises(UserError, match=r"no data set features in it \(it has embeddings\)"):
        read_source(tmp_path / "f.h5")
    np.savez(tmp_path / "f.npz", embeddings=X)
    with pytest.raises(UserError, match="no array x_train or y_train in it"):
        read_source(tmp_path / "f.npz")
    frame = pd.DataFrame({"id": range(3), "label": list("abc"), "embedding": range(3)})
    frame.to_parquet(tmp_path / "f.parquet")
    frame.to_csv(tmp_path / "f.csv", index=False)
    for name in ("f.parquet", "f.csv"):
        with pytest.raises(UserError, match=r"no column of features in it \(it has id, label, embedding"):
            read_source(tmp_path / name)
    pq.write_table(pa.table({"features": [1.0, 2.0]}), tmp_path / "g.parquet")
    with pytest.raises(UserError, match="features are double; expected a list of real numbers in each row"):
        read_source(tmp_path / "g.parquet")


def test_vectors_of_different_widths(tmp_path: Path) -> None:
    rows = [*X]
    for wrong, words in (
        (X[3, :3], "row 4: 3 features; expected 4"),
        (None, "row 4: 0 features; expected 4"),
    ):
        rows[3] = wrong
        with pytest.raises(UserError, match=words):
            read(write(tmp_path / "f.parquet", rows))
    path = write(tmp_path / "f.csv", X)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:5], lines[5] + ",1", *lines[6:], ""]))
    with pytest.raises(UserError, match="row 4: 7 values, but its header names 6"):
        read_source(path)
    path.write_text("\n".join([lines[0], lines[1].replace("f2", "f9"), *lines[2:], ""]))
    with pytest.raises(UserError, match="it has 4 columns of features, but no f2"):
        read_source(path)
    np.savez(tmp_path / "f.npz", features=X, id=range(9), label=range(20), fedtransfer=json.dumps(CARD))
    with pytest.raises(UserError, match="20 rows of features, but 9 of id"):
        read_source(tmp_path / "f.npz")


def test_a_last_line_without_an_end_may_be_cut(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", X)
    path.write_text(path.read_text().rstrip()[:-1])
    with pytest.raises(UserError, match="its last line has no end, so its last number may be cut short"):
        read_source(path)


def test_without_pyarrow_a_text_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "f.parquet", X)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'fedtransfer\[parquet\]' to read it, or write an .h5"):
        read_source(path)
    with pytest.raises(UserError, match=r"pip install 'fedtransfer\[parquet\]' to write Parquet"):
        write_features(tmp_path / "g.parquet", FeatureCard("n", 4, "1"), {}, iter([]))


@pytest.mark.parametrize("name", ["f.txt", "f.npy", "f"])
def test_other_kinds_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        UserError, match=r"expected a file name that ends in .npz, .h5, .hdf5, .parquet, .csv"
    ):
        write_features(tmp_path / name, FeatureCard("n", 4, "1"), {}, iter([]))


def test_manifests_and_archives_of_images_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_text("path,label,id\n1.jpg,a,7\n")
    np.savez(tmp_path / "images.npz", x_train=np.zeros((2, 8, 8), np.uint8), y_train=[0, 1])
    assert not holds_features(tmp_path / "images.csv")
    assert not holds_features(tmp_path / "images.npz")
    assert len(read_source(tmp_path / "images.npz").images) == 2


def test_a_card_is_the_name_of_a_backbone() -> None:
    for card in (FeatureCard("a-b_c.1", 7, "v2-beta"), FeatureCard("n", 1, "ab" * 32)):
        assert card_of(card.backbone) == card
    assert card_of("features-9") == FeatureCard("", 9, "")
    assert card_of("resnet50v2") is None
    path = Path("x.npz")
    text = json.dumps({"name": "MahmoodLab/UNI2-h", "width": 3, "version": "2 (May)", "sha256": ""})
    from fedtransfer.common.data.feature_card import read_card

    assert read_card(text, str(path)).backbone == "MahmoodLab_UNI2-h-features-3@2_May_"
