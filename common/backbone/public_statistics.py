"""Public statistics of a backbone's features: their mean, deviation and principal axes over images that are no site's.

They are made once, from public images, and every site uses the same file: so nothing of a site is in them. A file is an
.npz archive of

- ``mean`` and ``std``, (d,) float32;
- ``axes``, (d, d) float32: in its columns the principal axes of the features, by falling variance;
- ``standardised_axes``, the same of the features divided by ``std``;
- ``images``, how many they were, and ``fingerprint`` and ``resolution`` of the backbone.

What comes with a backbone may hold ``mean`` alone, or ``mean`` and ``std``.
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
from fedtransfer.common.errors import UserError

_ROWS = 4096  # features that are made float64 at a time
_MAKE = "`fedtransfer features statistics IMAGES --out FILE.npz` makes them from public images"


@dataclass(frozen=True, eq=False)
class PublicStatistics:
    """What a run uses of public statistics; None for what it does not.

    Attributes:
        mean: (d,) float32.
        std: (d,) float32.
        axes: (d, d) float32, in its columns, those of features as they are when they are projected.
    """

    mean: NDArray[np.float32] | None = None
    std: NDArray[np.float32] | None = None
    axes: NDArray[np.float32] | None = None

    @property
    def digest(self) -> bytes:
        """32 bytes that stand for all of them."""
        state = hashlib.sha256()
        for field in fields(self):
            array = getattr(self, field.name)
            state.update(field.name.encode() + (b"" if array is None else array.tobytes()))
        return state.digest()


def own_statistics(backbone: str) -> Traversable | None:
    """Return the file of statistics that comes with a backbone: with the bundled one, or beside a model file."""
    if backbone == BUNDLED:
        return files("fedtransfer.assets") / f"{BUNDLED}.feature-statistics.npz"
    if backbone in KERAS_BACKBONES:
        return None
    beside = Path(backbone).expanduser().with_suffix(".feature-statistics.npz")
    return beside if beside.is_file() else None


def read_statistics(file: Traversable, width: int) -> dict[str, NDArray[Any]]:
    """Read a file of statistics of features of so many numbers: its arrays by name.

    Raises:
        UserError: it is missing, damaged or of other features.
    """
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise UserError(f"feature statistics {file}: no such file; {_MAKE}") from None
    except Exception as error:  # a damaged zip or array, or pickled objects
        raise UserError(f"feature statistics {file}: cannot be read ({error}); {_MAKE}") from None
    if "mean" not in found:
        raise UserError(
            f"feature statistics {file}: no array mean in it (it has {', '.join(found) or 'none'}); {_MAKE}"
        )
    shapes = {"mean": (width,), "std": (width,), "axes": (width, width), "standardised_axes": (width, width)}
    for name in shapes.keys() & found.keys():
        array = found[name]
        if array.shape != shapes[name] or array.dtype.kind != "f" or not np.isfinite(array).all():
            raise UserError(
                f"feature statistics {file}: {name} is {array.dtype} of shape {array.shape}; expected finite real numbers "
                f"of shape {shapes[name]}; {_MAKE}"
            )
        found[name] = array.astype(np.float32)
    return found


def check_origin(found: dict[str, NDArray[Any]], file: str, fingerprint: str, resolution: int) -> None:
    """Check that statistics were made for a backbone, by what the file says.

    Raises:
        UserError: they were made for another one, or at another resolution.
    """
    made_for, pixels = str(found.get("fingerprint", "")), int(found.get("resolution", 0))
    if (made_for, pixels) != (fingerprint, resolution):
        raise UserError(
            f"feature statistics {file}: made for backbone {made_for[:16] or 'unknown'}… at {pixels} px, but this one is "
            f"{fingerprint[:16]}… at {resolution} px; {_MAKE}, with the same --backbone, --weights, --resolution and "
            "--preprocessing"
        )


def choose(
    found: dict[str, NDArray[Any]], backbone: str, *, deviation: bool, axes: bool, standardised: bool
) -> PublicStatistics:
    """Take from a file's arrays what a run uses.

    Args:
        found: the arrays by name.
        backbone: its name, for people.
        deviation: the run divides by it.
        axes: the run projects on them.
        standardised: features are divided by a deviation before they are projected.

    Raises:
        UserError: something of it is not there.
    """
    named = "standardised_axes" if standardised else "axes"
    wanted = [("std", "--standardise public", "deviation")] * deviation + [(named, "--project pca", "axes")] * axes
    for name, setting, what in wanted:
        if name not in found:
            raise UserError(
                f"{setting}: the public statistics of {backbone}'s features hold no {what}; {_MAKE}, to be given as "
                "--feature-statistics FILE.npz"
            )
    return PublicStatistics(found.get("mean"), found["std"] if deviation else None, found[named] if axes else None)


def write_statistics(path: Path, raw: NDArray[np.float32], fingerprint: str, resolution: int) -> None:
    """Write the statistics of raw features (n, d) float32 of public images, computed in float64."""
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
    np.savez(
        path,
        images=np.array(len(raw)),
        fingerprint=np.array(fingerprint),
        resolution=np.array(resolution),
        **{name: array.astype(np.float32) for name, array in arrays.items()},
    )


def _principal_axes(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.eigh(covariance)[1][:, ::-1]
