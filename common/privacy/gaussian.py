"""The Gaussian mechanism (Dwork and Roth 2014, section 3.5.3): clip each unit, noise all entries.

Clipping bounds what a unit, whatever it holds, changes a sum by. Noise and sum are float64. The low
bits of such numbers reveal a little about the sum (Mironov 2012), which is not accounted for;
``fedtransfer.common.privacy.discrete`` is free of this.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from randomgen import AESCounter

Arrays = tuple[NDArray[np.float64], ...]
_FAR = 2**16  # below it, a radius of 32 bits is too coarse: there would be gaps between large radii
_BULK = 2**16  # draws at once, which fit a core's cache


def secret_generator() -> np.random.Generator:
    """Return randomness that nobody can repeat: for noise, private sampling and rounding.

    It is AES-128 in counter mode, with a key from the system's CSPRNG. All other randomness follows
    from the run's seed (``fedtransfer.common.seeds``), which server and sites know.
    """
    return np.random.Generator(AESCounter(key=int.from_bytes(os.urandom(16), "little")))


def norm(arrays: Sequence[NDArray[Any]]) -> float:
    """Return the Euclidean norm of all arrays together, in float64; not finite on overflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        largest = float(np.max([np.abs(array).max(initial=0.0) for array in arrays], initial=0.0))  # NaN wins
        if not 0 < largest < np.inf:
            return largest
        return largest * float(np.sqrt(sum(np.square(array / np.float64(largest)).sum() for array in arrays)))


def clipped(arrays: Sequence[NDArray[Any]], bound: float) -> Arrays:
    """Scale arrays to a joint norm of at most ``bound``, up to rounding; to 0 if not finite."""
    size = norm(arrays)
    if not np.isfinite(size):
        return tuple(np.zeros(array.shape) for array in arrays)
    if size <= bound:
        return tuple(array.astype(np.float64) for array in arrays)
    return tuple(array / np.float64(size) * bound for array in arrays)


def clipped_rows(x: NDArray[np.floating[Any]], bound: float) -> NDArray[np.float64]:
    """Scale each row of x (n, d) to a norm of at most ``bound``, in float64; to 0 if not finite."""
    x = np.where(np.isfinite(x).all(1, keepdims=True), x, 0).astype(np.float64)
    largest = np.maximum(np.abs(x).max(1, keepdims=True, initial=0.0), np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):
        sizes = largest * np.linalg.norm(x / largest, axis=1, keepdims=True)
    return np.where(sizes <= bound, x, x / np.maximum(sizes, np.finfo(np.float64).tiny) * bound)


def noised(arrays: Sequence[NDArray[Any]], deviation: float, rng: np.random.Generator) -> Arrays:
    """Return arrays of any shapes plus independent Gaussian noise on each entry, in float64.

    Args:
        arrays: a sum over clipped units. The sum over no unit is zeros, and gets the same noise.
        deviation: standard deviation of the noise, in the unit of the arrays.
        rng: source of the noise; outside tests a secret one (``secret_generator``).

    Raises:
        ValueError: the deviation is negative, infinite or NaN.
    """
    if not 0 <= deviation < np.inf:
        raise ValueError(f"deviation of noise: got {deviation}; expected a number of at least 0")
    return tuple(array + deviation * rng.standard_normal(array.shape) for array in arrays)


class NoiseSource:
    """A source of vectors of one length, of independent normal draws with mean 0, in bulk.

    Box and Muller 1958, "… Generation of Random Normal Deviates". NumPy's ``standard_normal`` draws
    one number at a time and would take longer than the training that the noise is for; this is four
    times faster. At each call into NumPy another thread may take the interpreter, so one call makes
    several vectors.

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
        # A stream's bits XORed with bits that do not depend on it are as random as the stream.
        self._stream.update_into(data, data)
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
