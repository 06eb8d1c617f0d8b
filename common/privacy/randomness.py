"""Secret randomness, which nobody can repeat: for noise, private sampling and rounding.

All other randomness follows from the run's seed (``fedtransfer.common.seeds``), which server and
sites know.
"""

import os

import numpy as np
from randomgen import AESCounter


def secret_generator() -> np.random.Generator:
    """Return a generator over AES-128 in counter mode, with a key from the system's CSPRNG."""
    return np.random.Generator(AESCounter(key=int.from_bytes(os.urandom(16), "little")))
