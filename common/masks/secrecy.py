"""What two sites agree on without the server: keys, sealed boxes and pads, by ``cryptography``'s primitives.

X25519 (RFC 7748) and HKDF-SHA256 (RFC 5869) give a key to each purpose; AES-256 in counter mode stretches one to a pad,
AES-256-GCM seals what the server carries.
"""

import os
import re

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from fedtransfer.common.masks.shamir import BYTES

Words = NDArray[np.uint64]  # numbers modulo 2^64

_NONCE, _TAG = 12, 16
_KEY = re.compile("[0-9a-f]{64}")
_AGREEMENT = b"fedtransfer masks 1 x25519"


def derived(secret: bytes, purpose: bytes) -> bytes:
    """Return a key of 32 bytes from a secret, for one purpose."""
    return HKDF(hashes.SHA256(), 32, None, purpose).derive(secret)


def agreement_key(secret: int) -> X25519PrivateKey:
    """Return the private key that a secret stands for, so that to share the secret is to share the key."""
    return X25519PrivateKey.from_private_bytes(derived(secret.to_bytes(BYTES, "big"), _AGREEMENT))


def public(key: X25519PrivateKey) -> bytes:
    """Return its public key, 32 bytes."""
    return key.public_key().public_bytes_raw()


def is_public(digits: str) -> bool:
    """Whether this is a public key, in 64 hexadecimal digits: one of low order is none, whoever agrees with it agrees on 0."""
    if not _KEY.fullmatch(digits):
        return False
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(digits)))
    except ValueError:
        return False
    return True


def agreed(own: X25519PrivateKey, other: bytes, purpose: bytes) -> bytes:
    """Return the key of 32 bytes that the owners of both keys, and nobody else, can derive for a purpose.

    Raises:
        ValueError: the other's public key is none.
    """
    return derived(own.exchange(X25519PublicKey.from_public_bytes(other)), purpose)


def pad(key: bytes, length: int) -> Words:
    """Return ``length`` numbers, uniform modulo 2^64 to whoever lacks the key; a key is used for one pad only."""
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(8 * length))
    return np.frombuffer(stream, "<u8").astype(np.uint64, copy=False)


def seal(key: bytes, bound: bytes, content: bytes) -> bytes:
    """Encrypt and authenticate ``content``, which can be opened with the same key and ``bound`` only."""
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, content, bound)


def unseal(key: bytes, bound: bytes, box: bytes) -> bytes:
    """Open a sealed box.

    Raises:
        ValueError: it was not sealed with this key and ``bound``, or changed on its way.
    """
    try:
        return AESGCM(key).decrypt(box[:_NONCE], box[_NONCE:], bound)
    except InvalidTag:
        raise ValueError("a box that does not open") from None


SEALED = _NONCE + 2 * BYTES + _TAG  # length of a box with two shares
