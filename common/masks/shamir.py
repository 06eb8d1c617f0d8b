"""Shamir's secret sharing over the integers modulo 2^255 - 19.

Shamir 1979, "How to share a secret" (doi 10.1145/359168.359176): a secret is the value at 0 of a
random polynomial of degree t - 1, and its shares are values at other points. Any t shares give the
polynomial; fewer reveal nothing about the secret.

A library's version in GF(2^128) takes 80 times as long in Python, 56 ms instead of 0.7 ms for 99
shares. A simulated round of 100 sites would spend 20 seconds on it.
"""

import secrets
from collections.abc import Mapping, Sequence
from functools import lru_cache

PRIME = 2**255 - 19
BYTES = 32  # of a secret, and of a share


def draw() -> int:
    """Draw a secret from the operating system's CSPRNG."""
    return secrets.randbelow(PRIME)


def split(secret: int, threshold: int, points: Sequence[int]) -> list[int]:
    """Return shares of a secret below PRIME at ``points``; any ``threshold`` of them recover it.

    Points are distinct numbers from 1 on.
    """
    coefficients = [draw() for _ in range(threshold - 1)]
    shares = []
    for x in points:
        value = 0
        for coefficient in coefficients:
            value = (value + coefficient) * x % PRIME
        shares.append((value + secret) % PRIME)
    return shares


def combine(shares: Mapping[int, int]) -> int:
    """Return the secret from exactly ``threshold`` shares, point → share."""
    points = tuple(sorted(shares))
    return sum(w * shares[x] for w, x in zip(_weights(points), points, strict=True)) % PRIME


@lru_cache(maxsize=256)
def _weights(points: tuple[int, ...]) -> tuple[int, ...]:
    """Return the Lagrange weights for the value at 0."""
    weights = []
    for x in points:
        above = below = 1
        for other in points:
            if other != x:
                above = above * other % PRIME
                below = below * (other - x) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)
