import sys
from pathlib import Path

import numpy as np
import pytest

from fedtransfer.common.data.images import decode

pydicom = pytest.importorskip("pydicom")


def dicom(name: str) -> bytes:
    from pydicom.data import get_testdata_file

    return Path(str(get_testdata_file(name, download=False))).read_bytes()


def test_a_ct_slice_is_shown_over_the_whole_range() -> None:
    pixels = decode(dicom("CT_small.dcm"))
    assert pixels.shape == (128, 128, 3)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_a_file_without_a_picture_says_so() -> None:
    with pytest.raises(ValueError, match="DICOM"):
        decode(dicom("CT_small.dcm")[:3000])


def test_without_the_extra_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ValueError, match=r"pip install 'fedtransfer\[dicom\]'"):
        decode(dicom("CT_small.dcm"))
