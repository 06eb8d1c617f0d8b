"""Gaussian noise in bulk: Box and Muller 1958, "A Note on the Generation of Random Normal Deviates".

NumPy's own ``standard_normal`` draws one number at a time, which would take longer than the training that the noise is for;
this is four times faster.
"""

import math
from collections.abc import Iterator

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

_FAR = 2**16  # below it the 32 bits of a radius are too few: radii far out would be far between
_BULK = 2**17  # draws at once, that stay in a core's cache


class NoiseSource:
    """Vectors of one length, of independent normal draws.

    Each call into NumPy lets another thread take the interpreter, so several vectors are made by the same calls.

    Args:
        size: of the vectors.
        rng: gives the key of an AES-128 counter stream, which the draws are made of.
        vectors: that will be drawn; more may be.
    """

    def __init__(self, size: int, rng: np.random.Generator, vectors: int = 1) -> None:
        calls = -(-vectors * size // _BULK)
        self._shape = -(-vectors // calls), size
        self._half = -(-math.prod(self._shape) // 2)
        self._stream = Cipher(algorithms.AES128(rng.bytes(16)), modes.CTR(bytes(16))).encryptor()
        self._zeros = bytes(8 * self._half)
        self._words = np.empty(2 * self._half, np.uint32)
        self._uniform = np.empty(2 * self._half, np.float32)
        self._made: Iterator[NDArray[np.float32]] = iter(())

    def draw(self, deviation: float) -> NDArray[np.float32]:
        """Return a vector of mean 0 and this standard deviation.

        Radii come of 32 bits, those beyond 4.7 standard deviations of 64, which reaches 9.4: beyond are 4e-21 of all draws.
        """
        vector = next(self._made, None)
        if vector is None:
            self._made = iter(self._normal())
            vector = next(self._made)
        return np.float32(deviation) * vector

    def _normal(self) -> NDArray[np.float32]:
        """Make vectors of standard normal draws, one a row."""
        self._stream.update_into(self._zeros, self._words.data.cast("B"))
        far = np.flatnonzero(self._words[: self._half] < _FAR)
        np.copyto(self._uniform, self._words, casting="unsafe")
        radii, angles = self._uniform[: self._half], self._uniform[self._half :]
        radii += np.float32(0.5)
        if far.size:
            more = np.frombuffer(self._stream.update(bytes(4 * far.size)), np.uint32)
            radii[far] += ((more + 0.5) / 2**32 - 0.5).astype(np.float32)
        radii *= np.float32(2.0**-32)  # in (0, 1]
        np.log(radii, out=radii)
        radii *= np.float32(-2)
        np.sqrt(radii, out=radii)
        angles *= np.float32(2 * np.pi / 2**32)
        normal = self._words.view(np.float32)  # the words are used up
        x, y = normal[: self._half], normal[self._half :]
        np.multiply(radii, np.cos(angles, out=x), out=x)
        np.multiply(radii, np.sin(angles, out=y), out=y)
        return normal[: math.prod(self._shape)].reshape(self._shape)
