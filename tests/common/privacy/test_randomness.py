"""Secret randomness is AES in counter mode under a fresh key."""

import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fedtransfer.common.privacy.gaussian import secret_generator


def test_the_stream_is_that_of_aes_128_in_counter_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    key = bytes(range(1, 17))
    asked = []
    monkeypatch.setattr(os, "urandom", lambda size: asked.append(size) or key)
    stream = secret_generator().bit_generator.random_raw(512).astype("<u8").tobytes()
    assert asked == [16]
    # The generator's counter is little-endian, the cipher mode's big-endian: so block by block.
    aes = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    assert stream == b"".join(aes.update(block.to_bytes(16, "little")) for block in range(256))


def test_no_two_generators_are_alike() -> None:
    drawn = {secret_generator().bytes(16) for _ in range(50)}
    assert len(drawn) == 50


def test_nothing_that_others_seed_changes_it() -> None:
    for _ in range(2):
        np.random.seed(0)  # noqa: NPY002
        first = secret_generator().integers(0, 2**63, 4)
        np.random.seed(0)  # noqa: NPY002
        assert not np.array_equal(first, secret_generator().integers(0, 2**63, 4))
