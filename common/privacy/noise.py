"""Gaussian noise in bulk: Box and Muller 1958, "A Note on the Generation of Random Normal Deviates".

NumPy's own ``standard_normal`` draws one number at a time, which would take longer than the training that the noise is for;
this is four times faster.
"""

from collections.abc import Iterator

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

_FAR = 2**16  # below it the 32 bits of a radius are too few: radii far out would be far between
_BULK = 2**16  # draws at once, that stay in a core's cache


class NoiseSource:
    """Vectors of one length, of independent normal draws of mean 0.

    Each call into NumPy lets another thread take the interpreter, so several vectors are made by the same calls.

    Args:
        size: of the vectors.
        deviation: of a draw, its standard deviation.
        rng: gives the key of an AES-128 counter stream, which the draws are made of.
        vectors: that will be drawn; more may be.
    """

    def __init__(self, size: int, deviation: float, rng: np.random.Generator, vectors: int = 1) -> None:
        self._size, self._deviation, self._left = size, np.float32(deviation), vectors
        self._at_once = max(1, min(vectors, _BULK // size))
        half = -(-self._at_once * size // 2)
        self._stream = Cipher(algorithms.AES128(rng.bytes(16)), modes.CTR(bytes(16))).encryptor()
        self._words = np.zeros(2 * half, np.uint32)
        self._uniform = np.empty(2 * half, np.float32)
        self._made: Iterator[NDArray[np.float32]] = iter(())

    def draw(self) -> NDArray[np.float32]:
        """Return a vector, which holds until the next is drawn.

        Radii come of 32 bits, those beyond 4.7 standard deviations of 64, which reaches 9.4: beyond are 4e-21 of all draws.
        """
        vector = next(self._made, None)
        if vector is None:
            count = min(self._at_once, max(1, self._left))
            self._left -= count
            self._made = iter(self._normal(count))
            vector = next(self._made)
        return vector

    def _normal(self, vectors: int) -> NDArray[np.float32]:
        """Make so many vectors, one a row."""
        half = -(-vectors * self._size // 2)
        words, uniform = self._words[: 2 * half], self._uniform[: 2 * half]
        data = words.data.cast("B")
        self._stream.update_into(data, data)  # a stream's bits added to any, that are not of it, are as random as it is
        far = np.flatnonzero(words[:half] < _FAR)
        np.copyto(uniform, words, casting="unsafe")
        radii, angles = uniform[:half], uniform[half:]
        radii += np.float32(0.5)
        if far.size:
            more = np.frombuffer(self._stream.update(bytes(4 * far.size)), np.uint32)
            radii[far] = words[far] + (more + 0.5) / 2**32
        radii *= np.float32(2.0**-32)  # in (0, 1]
        np.log(radii, out=radii)
        radii *= np.float32(-2)
        np.sqrt(radii, out=radii)
        radii *= self._deviation
        angles *= np.float32(2 * np.pi / 2**32)
        normal = words.view(np.float32)  # the words are used up
        x, y = normal[:half], normal[half:]
        np.multiply(radii, np.cos(angles, out=x), out=x)
        np.multiply(radii, np.sin(angles, out=y), out=y)
        return normal[: vectors * self._size].reshape(vectors, self._size)
