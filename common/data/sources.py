"""List the labelled images of a source: class folders, a CSV manifest, an archive, or features.

The source assigns each image to a split:

- ``""``: none; the image's content decides between train, validation and test;
- ``development``: not test; the content decides between train and validation;
- ``train``, ``validation``, ``test``: as supplied.

``fedtransfer.common.data.images`` makes the choices that are left to the content.
"""

import csv
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedtransfer.common.data.feature_card import FeatureCard
from fedtransfer.common.data.feature_table import absolute, feature_table, holds_features
from fedtransfer.common.data.images import Image, Problem, archive_arrays
from fedtransfer.common.errors import UserError

SPLIT_FOLDERS = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation",
    "validation": "validation", "test": "test", "testing": "test",
}  # fmt: skip
SPLITS = ("", "development", "train", "validation", "test")


@dataclass(frozen=True)
class Source:
    """Images in a fixed order, class names in natural order, and the files that were left out."""

    images: tuple[Image, ...]
    classes: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    card: FeatureCard | None = None  # of ready-made features from a features file
    sites: tuple[str, ...] = ()  # the site of each image, if a features file says it


def natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sort names as people do: ``2`` before ``10``."""

    def key(name: str) -> list[tuple[bool, int, str]]:
        return [(not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in re.split(r"(\d+)", name)]

    return tuple(sorted(set(names), key=key))


def read_source(path: Path) -> Source:
    """List the images of a folder of class folders, a CSV manifest, an .npz archive or features.

    A folder may hold ``train``, ``validation`` and ``test`` folders with the class folders inside.

    Raises:
        UserError: there is nothing at ``path``, or something else, or it holds no image.
    """
    readers = {".csv": _read_manifest, ".npz": _read_archive}
    read = _read_folder if path.is_dir() else readers.get(path.suffix.lower())
    if holds_features(path):
        read = _read_features
    if not read and not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if not read:
        got = f"got a {path.suffix or 'plain'} file"
        raise UserError(
            f"{path}: expected a folder of class folders, a .csv manifest, an .npz archive, or features "
            f"(.npz, .h5, .parquet, .csv), {got}"
        )
    source = read(path)
    if not source.images:
        raise UserError(
            f"{path}: found no image; "
            f"expected a folder a class with its images inside, such as {path.name}/cat/1.jpg"
        )
    return source


def write_manifest(path: Path, images: Iterable[Image]) -> None:
    """Write images as a CSV manifest, from which ``read_source`` reads the same images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split", "group"])
        # In a manifest "fit" means "train, and not to be divided further".
        rows.writerows(
            [absolute(i.path), i.label, "fit" if i.split == "train" else i.split, i.group] for i in images
        )


def _read_folder(root: Path) -> Source:
    problems: list[Problem] = []
    folders = [entry for entry in _entries(root, problems) if entry.is_dir()]
    if folders and all(folder.name.lower() in SPLIT_FOLDERS for folder in folders):
        parts = [(SPLIT_FOLDERS[folder.name.lower()], folder) for folder in folders]
    else:
        parts = [("", root)]
    images: list[Image] = []
    for split, folder in parts:
        for entry in _entries(folder, problems):
            if not entry.is_dir():
                problems.append(Problem(str(entry), "not inside a class folder"))
                continue
            before = len(problems)
            files = list(_files_below(entry, problems))
            if not files and len(problems) == before:
                problems.append(Problem(str(entry), "class folder without files"))
            images += [Image(file, class_name(entry.name), split) for file in files]
    return Source(
        tuple(_divide_train(images)), natural_order(image.label for image in images), tuple(problems)
    )


def class_name(name: str) -> str:
    """Return a class name in Unicode's composed form, which is the same from all systems."""
    return unicodedata.normalize("NFC", name)


def _entries(folder: Path, problems: list[Problem]) -> list[Path]:
    """List a folder in name order, without hidden entries; one that cannot be read is a problem."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        problems.append(Problem(str(folder), error.strerror or str(error)))
        return []


def _files_below(folder: Path, problems: list[Problem]) -> Iterator[str]:
    visited: set[tuple[int, int]] = set()  # folders by device and inode, so that a link loop ends

    def refuse(error: OSError) -> None:
        problems.append(Problem(str(error.filename), error.strerror or str(error)))

    for parent, subfolders, names in os.walk(folder, followlinks=True, onerror=refuse):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in visited:
            problems.append(Problem(parent, "a link that leads back to a folder that is read already"))
            subfolders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (os.path.join(parent, name) for name in sorted(names) if not name.startswith("."))


def _read_manifest(path: Path) -> Source:
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = csv.DictReader(file)
            columns = rows.fieldnames or []
            if missing := {"path", "label"} - set(columns):
                raise UserError(
                    f"{path}: no column {' or '.join(sorted(missing))} in its first line {columns}; "
                    "expected path,label[,split][,group]"
                )
            images = [_manifest_row(path, rows.line_num, row) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a CSV manifest in UTF-8: {error}") from None
    return Source(tuple(_divide_train(images)), natural_order(image.label for image in images))


def _manifest_row(manifest: Path, line: int, row: dict[str, str | None]) -> Image:
    file = row["path"] or ""
    if not file or not row["label"]:
        raise UserError(f"{manifest}, line {line}: path and label must not be empty")
    split = _split(row.get("split") or "", f"{manifest}, line {line}")
    return Image(os.path.join(manifest.parent, file), class_name(row["label"]), split, row.get("group") or "")


def _split(text: str, where: str) -> str:
    """Return a split by any of its names. Raises UserError: it is another."""
    split = text.strip().lower()
    split = SPLIT_FOLDERS.get(split, split)
    if split not in (*SPLITS, "fit"):
        raise UserError(f"{where}: split {split!r}; expected train, validation, test or nothing")
    return split


def _read_features(path: Path) -> Source:
    table = feature_table(str(path))
    labels = table.column("label")
    if missing := next((row for row, label in enumerate(labels, 1) if not label), 0):
        why = f", row {missing}: the label is missing" if table.has("label") else ": no label in it"
        raise UserError(f"{path}{why}; expected the class of each row")
    rows = zip(table.ids, labels, table.column("split"), table.column("group"), strict=True)
    images = [
        Image(f"{path}#id={name}", class_name(label), _split(split, f"{path}, row {row}"), group)
        for row, (name, label, split, group) in enumerate(rows, 1)
    ]
    classes = natural_order(image.label for image in images)
    sites = tuple(table.column("site")) if table.has("site") else ()
    return Source(tuple(_divide_train(images)), classes, (), table.card, sites)


def _read_archive(path: Path) -> Source:
    arrays = archive_arrays(str(path))
    if missing := {"x_train", "y_train"} - set(arrays):
        raise UserError(
            f"{path}: no array {' or '.join(sorted(missing))} in it (it has {', '.join(arrays) or 'none'}); "
            "expected x_train, y_train[, x_test, y_test][, class_names]"
        )
    images: list[Image] = []
    for part, split in (("train", "train" if "x_test" in arrays else ""), ("test", "test")):
        if f"x_{part}" not in arrays:
            continue
        x, y = arrays[f"x_{part}"], arrays.get(f"y_{part}")
        images_fit = x.dtype == np.uint8 and (x.ndim == 3 or (x.ndim == 4 and x.shape[3] in (1, 3)))
        if not images_fit and not (x.dtype.kind == "f" and x.ndim == 2):
            raise UserError(
                f"{path}: x_{part} is {x.dtype} of shape {x.shape}; expected uint8 (0 to 255) of shape "
                "(n, H, W), (n, H, W, 1) or (n, H, W, 3), or ready-made features, "
                "real numbers of shape (n, d)"
            )
        if y is None or y.size != len(x) or y.dtype.kind not in "iu":
            raise UserError(
                f"{path}: y_{part} is {'missing' if y is None else f'{y.dtype} of shape {y.shape}'}; "
                f"expected {len(x)} whole numbers"
            )
        names = arrays.get("class_names")
        if names is not None and (y.min(initial=0) < 0 or y.max(initial=0) >= len(names)):
            raise UserError(
                f"{path}: y_{part} has labels from {y.min()} to {y.max()}, "
                f"but class_names has {len(names)} names"
            )
        labels = [str(names[k]) if names is not None else str(k) for k in y.ravel()]
        images += [Image(f"{path}#x_{part}/{row}", label, split) for row, label in enumerate(labels)]
    return Source(tuple(_divide_train(images)), natural_order(image.label for image in images))


def _divide_train(images: list[Image]) -> Iterator[Image]:
    """Turn ``train`` into ``development`` if the source supplies no validation images."""
    divide = not any(image.split == "validation" for image in images)
    for image in images:
        split = {"train": "development" if divide else "train", "fit": "train"}.get(image.split, image.split)
        yield image if split == image.split else Image(image.path, image.label, split, image.group)
