"""What sites that share masks sign for each other, through a coordinator that could put words into their mouths.

ECDSA with SHA-384 (FIPS 186-5) under the key by which a site is enrolled. That key also signs the site's requests to
Flower's SuperLink; what is signed here begins with words of its own, so that one is never taken for the other.
"""

from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

DOMAIN = b"fedtransfer secure aggregation, version 1\0"
_SCHEME = ec.ECDSA(hashes.SHA384())


class Identity(Protocol):
    """A site among those that it shares masks with."""

    def sign(self, data: bytes) -> bytes:
        """Sign as this site."""

    def verify(self, site: str, data: bytes, signature: bytes) -> None:
        """Check that ``site`` signed ``data``.

        Raises:
            SiteError: it did not, or this site does not know it.
        """


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Sign data; the signature is DER-encoded, some 100 bytes for P-384."""
    return key.sign(DOMAIN + data, _SCHEME)


def is_signed(key: ec.EllipticCurvePublicKey, data: bytes, signature: bytes) -> bool:
    """Return whether the owner of a public key signed ``data`` for this purpose."""
    try:
        key.verify(signature, DOMAIN + data, _SCHEME)
    except InvalidSignature:
        return False
    return True
