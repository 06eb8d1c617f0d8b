"""Named data sets, folders of several sites, and the declared classes of a simulation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.feature_table import holds_features
from fedtransfer.common.data.images import Image, Problem
from fedtransfer.common.data.sources import Source, natural_order, read_source
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import cache_folder, replacement

# Class names by the data sets' authors; those of MNIST are its digits.
_FASHION = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
_CIFAR10 = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"
_KERAS = {"cifar10": _CIFAR10, "cifar100": "", "fashion-mnist": _FASHION, "mnist": ""}
NAMES = ("cifar10-demo", *_KERAS)


def resolve_data(data: str) -> Path:
    """Return the path behind ``--data``: a named data set (downloaded once), or a file or folder.

    Raises:
        UserError: there is no such data set, file or folder, or the download failed.
    """
    if data == "cifar10-demo":
        with as_file(files("fedtransfer.assets") / "cifar10-demo.npz") as path:
            return path
    if archive := archive_of(data):
        return _download(data, archive)
    path = Path(data).expanduser()
    if not path.exists():
        named = f"the named data sets are {', '.join(NAMES)}"
        raise UserError(f"--data: got {data!r}; there is no such file or folder, and {named}")
    return path


def archive_of(name: str) -> Path | None:
    """Return the file of a downloaded data set; None for the bundled one and for other names."""
    return cache_folder("datasets") / f"{name}.npz" if name in _KERAS else None


def read_sites(root: Path) -> tuple[dict[str, Source], tuple[Problem, ...]]:
    """Read each folder of ``root`` as a site with its class folders (``--partition natural``).

    If there are no folders, each manifest, archive and features file is a site. In a features file,
    the column ``site`` says so. Return site → its images, and the problems found.

    Raises:
        UserError: ``root`` is neither, or has fewer than two sites in it.
    """
    refused = f"--partition natural: {root}"
    if holds_features(root):
        return _sites_by_column(read_source(root), refused), ()
    if not root.is_dir():
        raise UserError(f"{refused} is not a folder; expected a folder a site, each with its class folders")
    entries = [entry for entry in sorted(root.iterdir()) if not entry.name.startswith(".")]
    folders = [entry for entry in entries if entry.is_dir()]
    files = [entry for entry in entries if entry.suffix in (".csv", ".npz", ".h5", ".hdf5", ".parquet")]
    if len(folders) < 2 and (folders or len(files) < 2):
        got = f"has {len(folders)} folders in it"
        raise UserError(f"{refused} {got}; expected one for each of at least two sites")
    sites = {place.name if folders else place.stem: read_source(place) for place in folders or files}
    outside = [entry for entry in entries if folders and entry.is_file()]
    problems = [Problem(str(entry), "not inside a site's folder") for entry in outside]
    return sites, (*problems, *(problem for source in sites.values() for problem in source.problems))


def _sites_by_column(source: Source, refused: str) -> dict[str, Source]:
    """Divide ready-made features by the site that each row names."""
    if not source.sites:
        raise UserError(f"{refused} has no column site; expected the site of each row")
    images_of: dict[str, list[Image]] = {name: [] for name in natural_order(source.sites)}
    if len(images_of) < 2:
        raise UserError(f"{refused} has one site only, {source.sites[0]!r}; expected at least two")
    for name, image in zip(source.sites, source.images, strict=True):
        if not name or name.startswith(".") or "/" in name or "\\" in name:
            raise UserError(
                f"{refused}: {image.path}: got site {name!r}; expected a name without slashes that does "
                "not begin with a dot, as it names a folder"
            )
        images_of[name].append(image)
    return {name: replace(source, images=tuple(images)) for name, images in images_of.items()}


def _download(name: str, path: Path) -> Path:
    """Download a data set through keras.datasets into one .npz archive, unless it is there."""
    if path.exists():
        return path
    from fedtransfer.common.tensorflow import keras

    try:
        (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name.replace("-", "_")).load_data()
    except Exception as error:
        from keras.src.backend.config import keras_home

        why, folder = f"{type(error).__name__}: {error}", Path(keras_home()) / "datasets"
        raise UserError(
            f"--data {name}: not on this machine and could not be downloaded ({why}).\n"
            f"Keras keeps it in {folder}. "
            "Bring the files there from a machine with a network, or bring the images as an\n.npz archive "
            "with x_train, y_train, x_test, y_test and class_names, and give its path to --data."
        ) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    if _KERAS[name]:
        arrays["class_names"] = np.array(_KERAS[name].split(","))
    with replacement(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    return path


def declare_classes(config: RunConfig, images_of: Mapping[str, Sequence[Image]]) -> RunConfig:
    """Declare the classes of a simulation's data, if its sites must not report theirs.

    Raises:
        UserError: a name cannot be part of a list of names.
    """
    if not config.hides_counts or config.classes == "declared":
        return config
    names = natural_order(image.label for images in images_of.values() for image in images)
    if unlisted := [name for name in names if "," in name or name != name.strip()]:
        raise UserError(
            f"class {unlisted[0]!r} cannot be part of a list of class names, which --dp and --masks need; "
            "rename it without commas and spaces at its ends"
        )
    return config.model_copy(update={"classes": "declared", "class_names": ",".join(names)})
