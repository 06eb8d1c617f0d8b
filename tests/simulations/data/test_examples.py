"""Labelled examples, whatever holds them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from fedtransfer.common.errors import UserError
from fedtransfer.simulations.data.examples import Examples, read_examples, read_values

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
LABELS = [3, 10, 3, 10, 3, 10]


class BatchedDataset:
    """What tf.data and Keras data sets have in common."""

    def __init__(self, images: np.ndarray, class_names: list[str] | None = None) -> None:
        self.images = images
        if class_names:
            self.class_names = class_names

    def as_numpy_iterator(self) -> Any:
        labels = np.array(LABELS) // 10
        return iter([(self.images[:4], labels[:4]), (self.images[4:], labels[4:])])


class Names:
    names = ("cat", "dog")


class HuggingFace:
    """The interface of ``datasets.Dataset`` that is used."""

    column_names = ("id", "image", "label")
    features = {"id": None, "image": None, "label": Names()}  # noqa: RUF012

    def __iter__(self) -> Any:
        for row, image in enumerate(IMAGES):
            yield {"id": row, "image": Pillow.fromarray(image), "label": row % 2}


def labels(examples: Examples) -> list[str]:
    return [image.label for image in examples.images]


def test_arrays_of_bytes_and_of_real_numbers() -> None:
    for x in (IMAGES, IMAGES / 255, (IMAGES / 255).astype(np.float32), IMAGES.astype(np.int64), list(IMAGES)):
        examples = read_examples((x, LABELS), "data")
        np.testing.assert_array_equal(examples.arrays, IMAGES)
        assert labels(examples) == ["3", "10"] * 3
        assert examples.width == 0


def test_features() -> None:
    examples = read_examples((np.ones((6, 7)), np.array(LABELS)[:, None]), "data")
    assert (examples.width, examples.arrays[0].dtype) == (7, np.float32)


def test_data_sets_of_tensorflow_and_keras() -> None:
    for images in (IMAGES, IMAGES.astype(np.float32)):
        examples = read_examples(BatchedDataset(images), "data")
        np.testing.assert_array_equal(examples.arrays, IMAGES)
        assert labels(examples) == ["0", "1"] * 3
    assert labels(read_examples(BatchedDataset(IMAGES, ["cat", "dog"]), "data")) == ["cat", "dog"] * 3


class Numbered:
    """What data sets of PyTorch and Keras' ``PyDataset`` share: length, and elements by number."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, row: int) -> Any:
        return Pillow.fromarray(IMAGES[row]), LABELS[row]


def test_data_sets_with_elements_by_number() -> None:
    examples = read_examples(Numbered(), "data")
    np.testing.assert_array_equal(examples.arrays, IMAGES)
    assert labels(examples) == ["3", "10"] * 3


@pytest.mark.process
def test_a_tensorflow_data_set_itself() -> None:
    from fedtransfer.common.tensorflow import tf

    examples = read_examples(tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)), "data")
    np.testing.assert_array_equal(examples.arrays, IMAGES)
    assert labels(examples) == ["3", "10"] * 3


def test_labels_of_one_hot_encoding() -> None:
    one_hot = np.eye(2)[np.array(LABELS) // 10]
    assert labels(read_examples((IMAGES, one_hot), "data")) == ["0", "1"] * 3
    assert labels(read_examples([(IMAGES, one_hot)], "data")) == ["0", "1"] * 3
    assert labels(read_examples(list(zip(IMAGES, one_hot, strict=True)), "data")) == ["0", "1"] * 3


def test_a_black_image_of_a_keras_data_set_stays_black() -> None:
    """Whether real numbers end at 1 or at 255 is decided for the whole data set."""
    images = IMAGES.astype(np.float32)
    images[0] = images[0] > 128
    examples = read_examples(list(zip(images, LABELS, strict=True)), "data")
    assert examples.arrays[0].max() == 1


def test_grey_images_in_batches() -> None:
    assert read_examples([(IMAGES[..., 0], LABELS)], "data").arrays[0].shape == (5, 4)


def test_single_pairs_of_image_and_label() -> None:
    examples = read_examples([(image, b"cat") for image in IMAGES], "data")
    np.testing.assert_array_equal(examples.arrays, IMAGES)
    assert labels(examples) == ["cat"] * 6


def test_a_hugging_face_data_set() -> None:
    examples = read_examples(HuggingFace(), "data")
    np.testing.assert_array_equal(examples.arrays, IMAGES)
    assert labels(examples) == ["cat", "dog"] * 3


def test_files(tmp_path: Path) -> None:
    Pillow.fromarray(IMAGES[0]).save(tmp_path / "one.png")
    examples = read_examples([(tmp_path / "one.png", "cat"), (str(tmp_path / "one.png"), 2)], "data")
    assert not examples.arrays
    assert [(image.path, image.label) for image in examples.images] == [
        (str(tmp_path / "one.png"), "cat"),
        (str(tmp_path / "one.png"), "2"),
    ]
    with pytest.raises(UserError, match=r"data: 1 of 1 files are missing; the first: .*two\.png"):
        read_examples([(tmp_path / "two.png", "cat")], "data")


class Columns:
    column_names = ("text", "label")
    features: dict[str, Any] = {}  # noqa: RUF012


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (3, "north: got int; expected"),
        ((IMAGES, LABELS[:2]), "north: got 6 examples and 2 labels"),
        ((IMAGES[:0], []), "north: got 0 examples"),
        ((IMAGES * 2.0, LABELS), "values from 0 to 510; expected 0 to 1"),
        ((IMAGES.astype(np.int64) - 300, LABELS), "expected 0 to 255"),
        ((IMAGES[..., :2], LABELS), r"got uint8 of shape \(6, 5, 4, 2\); expected images"),
        ((np.array(["a"] * 6), LABELS), "expected images of shape"),
        ([1, 2], "elements that are not pairs"),
        (Columns(), r"columns \['text', 'label'\]; expected image and label"),
    ],
)
def test_what_is_none_of_these_is_refused(data: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_examples(data, "north")


def test_images_of_several_sizes() -> None:
    assert [value.shape for value in read_values([IMAGES[0], IMAGES[1][:3]], "x")] == [(5, 4, 3), (3, 4, 3)]
