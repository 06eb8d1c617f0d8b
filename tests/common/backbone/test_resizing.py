"""Images are fitted and resized as the exported model does it, by Keras' own layer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.common.backbone.resizing import resize
from fedtransfer.common.head.keras_head import resizing_layer

FITS = ("crop", "pad", "stretch")


@given(
    height=st.integers(1, 300), width=st.integers(1, 300), resolution=st.sampled_from([32, 64, 97]),
    fit=st.sampled_from(FITS), seed=st.integers(0, 9),
)  # fmt: skip
def test_an_image_is_resized_as_keras_does(
    height: int, width: int, resolution: int, fit: str, seed: int
) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), np.uint8)
    expected = resizing_layer(resolution, fit)(images.astype(np.float32)).numpy()
    resized = resize(images, resolution, fit)
    assert (resized.shape, resized.dtype) == ((2, resolution, resolution, 3), np.float32)
    np.testing.assert_allclose(resized, expected, atol=1e-3)


@pytest.mark.parametrize("fit", FITS)
def test_an_image_has_the_same_bits_alone_and_among_others(fit: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 40, 57, 3), np.uint8)
    together = resize(images, 64, fit)
    for image, expected in zip(images, together, strict=True):
        np.testing.assert_array_equal(resize(image[None], 64, fit)[0], expected)


def test_each_fit_shows_what_its_name_says() -> None:
    """A wide image, white on the left, grey in the middle, white on the right."""
    image = np.full((1, 60, 120, 3), 255, np.uint8)
    image[:, :, 30:90] = 128
    crop, pad, stretch = (resize(image, 60, fit)[0, :, :, 0] for fit in FITS)
    assert (crop == 128).all()
    assert (pad[:14] == 0).all()
    assert (pad[46:] == 0).all()
    np.testing.assert_allclose(pad[20:40, 2:13], 255)
    np.testing.assert_allclose(stretch[:, 2:13], 255)
    np.testing.assert_allclose(stretch[:, 20:40], 128)


def test_an_image_of_the_right_size_stays_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    for fit in FITS:
        np.testing.assert_array_equal(resize(image, 64, fit), image.astype(np.float32))
