"""Public statistics of a backbone's features: mean, deviation and principal axes.

They are computed once, and every site uses the same file, so they hold nothing of a site's images.
A file is an .npz archive of

- ``mean`` and ``std``, (d,) float32;
- ``axes``, (d, d) float32: its columns are the principal axes of the features, by decreasing
  variance;
- ``standardised_axes``, the same of the features divided by ``std``;
- ``images``, their number, and ``fingerprint`` and ``resolution`` of the backbone.

A file that comes with a backbone may hold ``mean`` alone, or ``mean`` and ``std``.
"""

import hashlib
from dataclasses import dataclass, fields
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.config.config import BUNDLED, KERAS_BACKBONES
from fedtransfer.common.config.settings.training import onnx_parts
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import replacement

_ROWS = 4096  # rows that are converted to float64 at a time
_MAKE = "`fedtransfer features statistics IMAGES --out FILE.npz` makes them from public images"


@dataclass(frozen=True, eq=False)
class PublicStatistics:
    """The public statistics that a run uses; None for those that it does not use."""

    mean: NDArray[np.float32] | None = None  # (d,) float32
    std: NDArray[np.float32] | None = None  # (d,) float32
    # (d, d) float32, whose columns are principal axes of the features that are projected.
    axes: NDArray[np.float32] | None = None

    @property
    def digest(self) -> bytes:
        """SHA-256 of all statistics, 32 bytes."""
        state = hashlib.sha256()
        for field in fields(self):
            array = getattr(self, field.name)
            state.update(field.name.encode() + (b"" if array is None else array.tobytes()))
        return state.digest()


def statistics_file(backbone: str) -> Traversable | None:
    """Return the file of statistics of the bundled backbone, or the one next to a model file."""
    if backbone == BUNDLED:
        return files("fedtransfer.assets") / f"{BUNDLED}.feature-statistics.npz"
    if backbone in KERAS_BACKBONES:
        return None
    parts = onnx_parts(backbone)
    file = (parts[0] if parts else Path(backbone).expanduser()).with_suffix(".feature-statistics.npz")
    return file if file.is_file() else None


def public_mean(backbone: str, width: int) -> NDArray[np.float32] | None:
    """Return the mean (width,) that comes with a backbone, or None. Raises as the reader."""
    file = statistics_file(backbone)
    return read_statistics(file, width)["mean"] if file else None


def read_statistics(file: Traversable, width: int) -> dict[str, NDArray[Any]]:
    """Read the statistics of features of a given width: the arrays by name.

    Raises:
        UserError: the file is missing, damaged, or of features of another width.
    """
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise UserError(f"feature statistics {file}: no such file; {_MAKE}") from None
    except Exception as error:  # a damaged zip or array, or pickled objects
        raise UserError(f"feature statistics {file}: cannot be read ({error}); {_MAKE}") from None
    if "mean" not in arrays:
        raise UserError(
            f"feature statistics {file}: no array mean in it (it has {', '.join(arrays) or 'none'}); {_MAKE}"
        )
    shapes = {"mean": (width,), "std": (width,), "axes": (width, width), "standardised_axes": (width, width)}
    for name in shapes.keys() & arrays.keys():
        array = arrays[name]
        if array.shape != shapes[name] or array.dtype.kind != "f" or not np.isfinite(array).all():
            raise UserError(
                f"feature statistics {file}: {name} is {array.dtype} of shape {array.shape}; "
                f"expected finite real numbers of shape {shapes[name]}; {_MAKE}"
            )
        arrays[name] = array.astype(np.float32)
    return arrays


def check_origin(arrays: dict[str, NDArray[Any]], file: str, fingerprint: str, resolution: int) -> None:
    """Check which backbone and resolution a file is of. Raises UserError: it is another."""
    made_for, pixels = str(arrays.get("fingerprint", "")), int(arrays.get("resolution", 0))
    if (made_for, pixels) != (fingerprint, resolution):
        raise UserError(
            f"feature statistics {file}: made for backbone {made_for[:16] or 'unknown'}… at {pixels} px, "
            f"but this one is {fingerprint[:16]}… at {resolution} px; "
            f"{_MAKE}, with the same --backbone, --weights, --resolution and --preprocessing"
        )


def choose(
    arrays: dict[str, NDArray[Any]], backbone: str, *, deviation: bool, axes: bool, standardised: bool
) -> PublicStatistics:
    """Return the statistics that a run uses, from a file's arrays.

    Args:
        arrays: the arrays by name.
        backbone: its name, for error texts.
        deviation, axes: whether the run divides by the deviation, and projects on the axes.
        standardised: whether features are divided by a deviation before they are projected.

    Raises:
        UserError: an array that the run uses is missing.
    """
    axes_name = "standardised_axes" if standardised else "axes"
    required = [("std", "--standardise public", "deviation")] * deviation
    required += [(axes_name, "--project pca", "axes")] * axes
    for name, setting, noun in required:
        if name not in arrays:
            raise UserError(
                f"{setting}: the public statistics of {backbone}'s features hold no {noun}; "
                f"{_MAKE}, to be given as --feature-statistics FILE.npz"
            )
    return PublicStatistics(
        arrays.get("mean"), arrays["std"] if deviation else None, arrays[axes_name] if axes else None
    )


def write_statistics(path: Path, raw: NDArray[np.float32], fingerprint: str, resolution: int) -> None:
    """Write the statistics, computed in float64, of raw features (n, d) float32."""
    mean = raw.mean(0, dtype=np.float64)
    covariance = np.zeros((len(mean), len(mean)))
    for at in range(0, len(raw), _ROWS):
        centred = raw[at : at + _ROWS] - mean
        covariance += centred.T @ centred / len(raw)
    deviation = np.sqrt(np.diag(covariance))
    scale = np.divide(1, deviation, out=np.ones_like(deviation), where=deviation > 0)
    arrays = {
        "mean": mean,
        "std": deviation,
        "axes": _principal_axes(covariance),
        "standardised_axes": _principal_axes(scale[:, None] * covariance * scale),
    }
    with replacement(path) as temporary, temporary.open("wb") as file:
        origin = {"images": len(raw), "fingerprint": fingerprint, "resolution": resolution}
        numbers = {name: array.astype(np.float32) for name, array in arrays.items()}
        np.savez(file, **{name: np.array(value) for name, value in origin.items()}, **numbers)  # type: ignore[arg-type]


def _principal_axes(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.eigh(covariance)[1][:, ::-1]
