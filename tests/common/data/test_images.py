import io

import numpy as np
import pytest
from pictures import picture
from PIL import Image as Pillow

from fedtransfer.common.data.images import content_key, decode


def encoded(image: Pillow.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_pictures_are_read_as_a_person_sees_them() -> None:
    image = picture((200, 30, 30), 5, (10, 6))
    rgb = np.asarray(image)
    np.testing.assert_array_equal(decode(encoded(image)), rgb)
    np.testing.assert_array_equal(
        decode(encoded(image.convert("L"))), np.repeat(np.asarray(image.convert("L"))[..., None], 3, 2)
    )
    clear = image.convert("RGBA")
    clear.putalpha(0)
    assert (decode(encoded(clear)) == 255).all(), "transparent is shown on white"
    deep = Pillow.fromarray((np.asarray(image.convert("L")).astype(np.uint16) << 8) + 77)
    np.testing.assert_array_equal(decode(encoded(deep))[..., 0], np.asarray(image.convert("L")))
    exif = Pillow.Exif()
    exif[0x0112] = 6  # the camera was turned
    assert decode(encoded(image, "JPEG", exif=exif)).shape == (10, 6, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"%PDF-1.4 nothing", "not an image"),
        (encoded(picture((9, 9, 9), 1, (64, 64)))[:900], "damaged"),
    ],
)
def test_unreadable_content_says_why(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(content)


def test_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="too large"):
        decode(encoded(picture((1, 1, 1), 1, (64, 64))))


def test_keys_tell_contents_apart() -> None:
    a = np.zeros((2, 8), np.uint8)
    assert (
        len({content_key(a), content_key(a.reshape(8, 2)), content_key(a.tobytes()), content_key(a + 1)}) == 4
    )
    assert content_key(a) == content_key(a.copy())
