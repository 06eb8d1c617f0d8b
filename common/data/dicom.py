"""Read DICOM files, if the optional extra is installed: ``pip install 'fedtransfer[dicom]'``."""

import io

import numpy as np
from numpy.typing import NDArray


def decode_dicom(content: bytes) -> NDArray[np.uint8]:
    """Decode a DICOM file's first frame to RGB (H, W, 3) as a viewer shows it.

    Modality and window (VOI) transforms are applied, MONOCHROME1 is inverted, and values are scaled
    to 0 to 255.

    Raises:
        ValueError: pydicom is not installed, or cannot read a picture in the file.
    """
    try:
        import pydicom
        from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut, convert_color_space
    except ImportError:
        raise ValueError("a DICOM file; pip install 'fedtransfer[dicom]' to read it, or convert it to PNG") from None
    try:
        data = pydicom.dcmread(io.BytesIO(content))
        pixels, kind = data.pixel_array, str(data.PhotometricInterpretation)
        if int(data.get("NumberOfFrames", 1) or 1) > 1:
            pixels = pixels[0]
        if pixels.ndim == 3:
            return np.asarray(convert_color_space(pixels, kind, "RGB") if kind.startswith("YBR") else pixels, np.uint8)
        values = np.asarray(apply_voi_lut(apply_modality_lut(pixels, data), data), np.float64)
    except Exception as error:  # pydicom raises many kinds, for damaged files and unknown compressions
        raise ValueError(f"a DICOM file without a readable picture: {error}") from None
    grey = 255 * (values - values.min()) / max(float(np.ptp(values)), 1e-12)
    display = (255 - grey if kind == "MONOCHROME1" else grey).astype(np.uint8)
    return np.repeat(display[..., None], 3, axis=2)
