"""Labelled examples from Python: arrays, lists of files, and the data sets of other packages.

The module imports neither TensorFlow nor Hugging Face: it recognises an object by its methods.
"""

import os
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.data.images import Image
from fedtransfer.common.errors import UserError

_ITERATORS = ("as_numpy_iterator", "__iter__", "__getitem__")  # tf.data; most objects; Keras and PyTorch
_EXPECTED = (
    "expected (x, y) with images (n, h, w, 3) or features (n, d), a list of (path, label), a tf.data, Keras "
    "or PyTorch data set of (image, label), or a Hugging Face Dataset with the columns image and label"
)


@dataclass(frozen=True)
class Examples:
    """Labelled examples of a site, or of all sites; arrays are empty for files.

    In memory they are images (h, w[, 1 or 3]) uint8 or features (d,) float32.
    """

    images: tuple[Image, ...]  # label, split and group of each; its path, or "" if it is in memory
    arrays: Sequence[NDArray[Any]] = ()

    @property
    def width(self) -> int:
        """d for features, 0 for images."""
        return self.arrays[0].shape[0] if self.arrays and self.arrays[0].ndim == 1 else 0


def read_examples(data: Any, name: str) -> Examples:
    """Read labelled examples from any of the supported objects.

    >>> read_examples(([[0.5, 1.0], [0.0, 2.0]], ["cat", "dog"]), "data").width
    2

    Raises:
        UserError: the data are of an unknown kind, or are empty; the text begins with ``name``.
    """
    if isinstance(data, tuple) and _is_pair(data, Sized) and not isinstance(data[0], str):
        arrays, labels = read_values(data[0], name), _labels(data[1])
    elif hasattr(data, "column_names") and hasattr(data, "features"):
        arrays, labels = _read_hugging_face(data, name)
    elif isinstance(data, list) and data and all(_is_pair(pair, str | os.PathLike) for pair in data):
        files = [Path(path).expanduser().absolute() for path, _ in data]
        if missing := [file for file in files if not file.is_file()]:
            lost = f"{len(missing)} of {len(files)} files are missing"
            raise UserError(f"{name}: {lost}; the first: {missing[0]}")
        pairs = zip(files, data, strict=True)
        return Examples(tuple(Image(str(file), _label(pair[1])) for file, pair in pairs))
    elif any(hasattr(data, method) for method in _ITERATORS) and not isinstance(data, np.ndarray | str):
        arrays, labels = _read_pairs(data, name)
    else:
        raise UserError(f"{name}: got {type(data).__name__}; {_EXPECTED}")
    if not arrays or len(arrays) != len(labels):
        got = f"got {len(arrays)} examples and {len(labels)} labels"
        raise UserError(f"{name}: {got}; expected one label an example")
    return Examples(tuple(Image("", label) for label in labels), arrays)


def read_values(values: Any, name: str) -> list[NDArray[Any]]:
    """Return images as uint8, and features (n, d) as float32, one array an example.

    Raises:
        UserError: they are neither images nor features; or real numbers of images exceed 0 to 1.
    """
    if isinstance(values, list | tuple):
        return [image for value in values for image in read_values(np.asarray(value)[None], name)]
    array = np.asarray(values)
    if array.ndim == 2 and array.dtype.kind == "f":
        return list(array.astype(np.float32))
    has_colours = array.ndim == 3 or (array.ndim == 4 and array.shape[3] in (1, 3))
    if not has_colours or array.dtype.kind not in "uif":
        raise UserError(
            f"{name}: got {array.dtype} of shape {array.shape}; expected images of shape (n, h, w, 3), uint8 "
            "or real numbers from 0 to 1, or features of shape (n, d), real numbers"
        )
    most = 1 if array.dtype.kind == "f" else 255
    if array.size and not (array.min() >= 0 and array.max() <= most):
        raise UserError(
            f"{name}: {array.dtype} images have values from {array.min():g} to {array.max():g}; expected 0 "
            f"to {most} (divide real numbers by 255, or convert them to uint8)"
        )
    return list(np.round(array * 255).astype(np.uint8) if most == 1 else array.astype(np.uint8))


def _is_pair(pair: object, first: Any = object) -> bool:
    return isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], first)


def _read_pairs(data: Any, name: str) -> tuple[list[NDArray[Any]], list[str]]:
    """Read pairs of an image and its label, or of a batch of images and their labels."""
    classes = getattr(data, "class_names", None)
    if hasattr(data, "as_numpy_iterator"):
        data = data.as_numpy_iterator()
    examples, labels = list[NDArray[Any]](), list[str]()
    for pair in data if hasattr(data, "__iter__") else (data[i] for i in range(len(data))):
        if not _is_pair(pair):
            raise UserError(f"{name}: got elements that are not pairs of an image and its label; {_EXPECTED}")
        x, y = np.asarray(pair[0]), np.asarray(pair[1])
        if single := y.ndim == 0 or not x.ndim or len(x) != len(y):
            x, y = x[None], y[None]
        examples += [x[0]] if single else list(x)
        labels += _labels(y, classes)
    # Keras reads image files as real numbers from 0 to 255.
    if any(x.ndim > 1 and x.dtype.kind == "f" and x.max(initial=0) > 1 for x in examples):
        examples = [np.clip(np.round(x), 0, 255).astype(np.uint8) for x in examples]
    return [value for x in examples for value in read_values(x[None], name)], labels


def _read_hugging_face(data: Any, name: str) -> tuple[list[NDArray[Any]], list[str]]:
    columns = list(data.column_names)
    image = next((column for column in ("image", "img") if column in columns), None)
    label = next((column for column in ("label", "labels", "fine_label") if column in columns), None)
    if image is None or label is None:
        raise UserError(f"{name}: the data set has the columns {columns}; expected image and label")
    names = getattr(data.features[label], "names", None)
    values, labels = list[NDArray[Any]](), list[str]()
    for row in data:
        picture = row[image].convert("RGB") if hasattr(row[image], "convert") else row[image]
        values += read_values(np.asarray(picture)[None], name)
        labels.append(str(names[row[label]]) if names else _label(row[label]))
    return values, labels


def _labels(y: Any, classes: Sequence[str] | None = None) -> list[str]:
    """Return labels (n,), (n, 1) or one-hot (n, C) as text, by the names in ``classes``."""
    numbers = np.asarray(y)
    numbers = numbers.argmax(1) if numbers.ndim == 2 and numbers.shape[1] > 1 else numbers.ravel()
    return [str(classes[int(label)]) if classes else _label(label) for label in numbers]


def _label(label: Any) -> str:
    return label.decode() if isinstance(label, bytes) else str(label)
