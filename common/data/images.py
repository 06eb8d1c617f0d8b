"""One image: its path, its content, its pixels as a person sees them, and its split."""

import errno
import hashlib
import io
import os
import re
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from fedtransfer.common.data.feature_table import feature_table, row_of
from fedtransfer.common.errors import UserError
from fedtransfer.common.seeds import uniform

MAX_BYTES = 2**30  # a larger file is no photograph
_ARCHIVE_ROW = re.compile(r"(?P<archive>.+\.npz)#(?P<member>\w+)/(?P<row>\d+)$", re.IGNORECASE)

Content = bytes | NDArray[Any]  # a file's bytes, an array (H, W[, 1 or 3]) uint8, or ready-made features (d,)


@dataclass(frozen=True)
class Image:
    """One labelled image, or a row of ready-made features, not read yet.

    ``path`` is a file, or ``archive.npz#member/row``, or ``features.parquet#id=ID``.
    """

    path: str
    label: str
    split: str = ""
    group: str = ""

    def read(self) -> Content:
        """Return a file's bytes, an archive's array or a row. Raises OSError: it is unreadable."""
        if item := row_of(self.path):
            return feature_table(item[0]).vector(item[1])
        if place := _place(self.path):
            file, member, row = place
            return archive_arrays(file)[member][row]
        status = os.stat(self.path)
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would never end
            raise OSError(errno.EINVAL, "not a regular file")
        if status.st_size > MAX_BYTES:
            raise OSError(errno.EFBIG, f"too large: {status.st_size:,} bytes, at most {MAX_BYTES:,} are read")
        return Path(self.path).read_bytes()

    def key(self) -> bytes:
        """Return the content key; an archive's row computes it once. Raises OSError as ``read``."""
        if place := row_of(self.path) or _place(self.path):
            keys = _archive_keys(place[0], os.stat(place[0]).st_mtime_ns)
            if place not in keys:
                keys[place] = content_key(self.read())
            return keys[place]
        return content_key(self.read())


@dataclass(frozen=True)
class Problem:
    """A file or folder of a source that cannot be used, and why."""

    path: str
    reason: str


def content_key(content: Content) -> bytes:
    """Return the 32-byte SHA-256 of an image's content (for arrays: type, shape and bytes)."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).digest()
    return hashlib.sha256(f"{content.dtype.str}{content.shape}".encode() + content.tobytes()).digest()


def decode(content: Content) -> NDArray[np.uint8]:
    """Decode an image to RGB (H, W, 3) as a person sees it: upright, on white if transparent.

    Raises:
        ValueError: the content is empty, not an image, damaged or too large; the text says which.
    """
    if isinstance(content, np.ndarray):
        if content.ndim == 1:
            raise ValueError(
                f"ready-made features, not an image; they go with --backbone features-{len(content)}"
            )
        image = content[..., None] if content.ndim == 2 else content
        return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))
    if not content:
        raise ValueError("the file is empty")
    if content[128:132] == b"DICM":
        return decode_dicom(content)
    try:
        with Pillow.open(io.BytesIO(content)) as file:
            return np.asarray(_to_rgb(ImageOps.exif_transpose(file)))
    except UnidentifiedImageError:
        raise ValueError("not an image, or of a kind that Pillow cannot read") from None
    except Pillow.DecompressionBombError as error:
        raise ValueError(f"too large: {error}") from None
    except Exception as error:  # Pillow's readers raise many kinds for damaged files
        raise ValueError(f"damaged: {error}") from None


def vector(content: Content, width: int) -> NDArray[np.float32]:
    """Return ready-made features (width,) float32 as they are. Raises ValueError: they are not."""
    if isinstance(content, bytes) or content.ndim != 1:
        raise ValueError(
            f"an image; --backbone features-{width} expects ready-made features of width {width}"
        )
    if len(content) != width:
        raise ValueError(f"features of width {len(content)}; --backbone features-{width} expects {width}")
    if not np.isfinite(content).all():
        raise ValueError("features that are NaN or infinite")
    return content.astype(np.float32)


def _to_rgb(image: Pillow.Image) -> Pillow.Image:
    """Convert any mode to 8-bit RGB; 32-bit numbers, which have no fixed white, are scaled."""
    if image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image, np.float64))
        low, high = values.min(), values.max()
        grey = (255 * (values - low) / max(high - low, 1e-12)).astype(np.uint8)
        return Pillow.fromarray(grey).convert("RGB")
    if image.mode.startswith("I;16"):
        return Pillow.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Pillow.alpha_composite(Pillow.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def archive_arrays(path: str) -> dict[str, NDArray[Any]]:
    """Read an .npz archive, once for as long as it does not change on disk."""
    return _load_archive(path, os.stat(path).st_mtime_ns)


@lru_cache(maxsize=64)
def _archive_keys(path: str, modified: int) -> dict[tuple[str | int, ...], bytes]:
    """Return a dict for the content keys of a file's rows, which ``Image.key`` fills."""
    return {}


def _place(path: str) -> tuple[str, str, int] | None:
    """Return archive, member and row of a path ``archive.npz#member/row``; None for another."""
    match = _ARCHIVE_ROW.match(path)
    return (match["archive"], match["member"], int(match["row"])) if match else None


@lru_cache(maxsize=2)
def _load_archive(path: str, modified: int) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    except Exception as error:  # a damaged zip or array, or pickled objects
        raise UserError(f"{path}: not a readable .npz archive of plain arrays: {error}") from None


def decode_dicom(content: bytes) -> NDArray[np.uint8]:
    """Decode a DICOM file's first frame to RGB (H, W, 3) as viewers show it; needs pydicom.

    Modality and window (VOI) transforms are applied, MONOCHROME1 is inverted, and values are scaled
    to 0 to 255.

    Raises:
        ValueError: pydicom is not installed, or cannot read a picture in the file.
    """
    try:
        import pydicom
        from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut, convert_color_space
    except ImportError:
        raise ValueError(
            "a DICOM file; pip install 'fedtransfer[dicom]' to read it, or convert it to PNG"
        ) from None
    try:
        data = pydicom.dcmread(io.BytesIO(content))
        pixels, kind = data.pixel_array, str(data.PhotometricInterpretation)
        if int(data.get("NumberOfFrames", 1) or 1) > 1:
            pixels = pixels[0]
        if pixels.ndim == 3:
            return np.asarray(
                convert_color_space(pixels, kind, "RGB") if kind.startswith("YBR") else pixels, np.uint8
            )
        values = np.asarray(apply_voi_lut(apply_modality_lut(pixels, data), data), np.float64)
    except Exception as error:  # pydicom raises many kinds, for damaged files and unknown compressions
        raise ValueError(f"a DICOM file without a readable picture: {error}") from None
    grey = 255 * (values - values.min()) / max(float(np.ptp(values)), 1e-12)
    display = (255 - grey if kind == "MONOCHROME1" else grey).astype(np.uint8)
    return np.repeat(display[..., None], 3, axis=2)


def split_of(image: Image, key: bytes, seed: int, test_fraction: float, validation_fraction: float) -> str:
    """Return ``train``, ``validation`` or ``test`` for an image with content key ``key``.

    It depends on the content and the seed only, so an image and its exact copies are in the same
    split at every site and in every partition. Images of one group (of one patient, for example)
    are in one split too. Splits that the source supplies stay.
    """
    if image.split in ("train", "validation", "test"):
        return image.split
    identity = image.group or key
    if image.split != "development" and uniform(seed, "test split", identity) < test_fraction:
        return "test"
    return "validation" if uniform(seed, "validation split", identity) < validation_fraction else "train"
