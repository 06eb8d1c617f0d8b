"""Random streams keyed by (seed, purpose, …); the project has no global random state."""

import hashlib

import numpy as np

Key = int | str | bytes


def digest(seed: int, purpose: str, *keys: Key) -> bytes:
    """Return 32 bytes that depend on all arguments and on nothing else."""
    return hashlib.sha256(repr((seed, purpose, *keys)).encode()).digest()


def generator(seed: int, purpose: str, *keys: Key) -> np.random.Generator:
    """Return an independent generator for one purpose.

    >>> a, b = generator(0, "batches", 1, "north"), generator(0, "batches", 1, "north")
    >>> bool(a.integers(10) == b.integers(10))
    True
    """
    return np.random.default_rng(np.frombuffer(digest(seed, purpose, *keys), np.uint32))


def uniform(seed: int, purpose: str, *keys: Key) -> float:
    """Return a number in [0, 1) that is a fixed function of the arguments."""
    return int.from_bytes(digest(seed, purpose, *keys)[:7]) / 2**56
