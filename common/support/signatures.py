"""Signatures of sites that share masks, on messages that the coordinator could forge.

ECDSA with SHA-384 (FIPS 186-5) under the key by which a site is enrolled. That key also signs the
site's requests to Flower's SuperLink. Data signed here begins with ``DOMAIN``, so that neither
signature is ever valid for the other.
"""

from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

DOMAIN = b"fedtransfer secure aggregation, version 1\0"
_SCHEME = ec.ECDSA(hashes.SHA384())


class Identity(Protocol):
    """A site as the sites that it shares masks with know it."""

    def sign(self, data: bytes) -> bytes:
        """Sign as this site."""

    def verify(self, site: str, data: bytes, signature: bytes) -> None:
        """Check that ``site`` signed ``data``.

        Raises:
            SiteError: the signature is invalid, or this site does not know ``site``.
        """


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Sign data; the signature is DER-encoded, about 100 bytes for P-384."""
    return key.sign(DOMAIN + data, _SCHEME)


def is_signed(key: ec.EllipticCurvePublicKey, data: bytes, signature: bytes) -> bool:
    """Return whether the owner of a public key signed ``data`` for this purpose."""
    try:
        key.verify(signature, DOMAIN + data, _SCHEME)
    except InvalidSignature:
        return False
    return True
