"""Keys, sealed boxes and pads that two sites share and the server does not know.

X25519 (RFC 7748) and HKDF-SHA256 (RFC 5869) give a key for each purpose. AES-256 in counter mode
expands a key to a pad. AES-256-GCM seals boxes, which the server passes on.
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
    """Derive a key of 32 bytes from a secret, for one purpose."""
    return HKDF(hashes.SHA256(), 32, None, purpose).derive(secret)


def agreement_key(secret: int) -> X25519PrivateKey:
    """Return the private key that follows from a secret: who recovers one recovers the other."""
    return X25519PrivateKey.from_private_bytes(derived(secret.to_bytes(BYTES, "big"), _AGREEMENT))


def public(key: X25519PrivateKey) -> bytes:
    """Return the public key of a private key, 32 bytes."""
    return key.public_key().public_bytes_raw()


def is_public(digits: str) -> bool:
    """Whether 64 hexadecimal digits are a public key not of low order: such a key agrees on 0."""
    if not _KEY.fullmatch(digits):
        return False
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(digits)))
    except ValueError:
        return False
    return True


def agreed(private: X25519PrivateKey, public: bytes, purpose: bytes) -> bytes:
    """Return a key of 32 bytes for one purpose, which only the owners of the two keys can derive.

    Raises:
        ValueError: ``public`` is not a valid public key.
    """
    return derived(private.exchange(X25519PublicKey.from_public_bytes(public)), purpose)


def pad(key: bytes, length: int) -> Words:
    """Return ``length`` numbers that look uniform modulo 2^64 without the key; one pad a key."""
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(8 * length))
    return np.frombuffer(stream, "<u8").astype(np.uint64, copy=False)


def seal(key: bytes, bound: bytes, content: bytes) -> bytes:
    """Encrypt and authenticate ``content``; only the same key and ``bound`` open the box."""
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, content, bound)


def unseal(key: bytes, bound: bytes, box: bytes) -> bytes:
    """Open a sealed box. Raises ValueError: another key or ``bound``, or the box was changed."""
    try:
        return AESGCM(key).decrypt(box[:_NONCE], box[_NONCE:], bound)
    except InvalidTag:
        raise ValueError("a box that does not open") from None


SEALED = _NONCE + 2 * BYTES + _TAG  # length of a box with two shares
