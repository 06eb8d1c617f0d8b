"""Public keys of sites, and their fingerprints, which people at both ends compare."""

import base64
import hashlib

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)  # those that Flower takes


def fingerprint(line: str) -> str:
    """Return ``SHA256:…`` of a public key in OpenSSH's one-line form."""
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def public_line(key: ec.EllipticCurvePublicKey) -> str:
    """Return a public key in OpenSSH's one-line form, without a comment."""
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def line_of_pem(pem: bytes) -> str:
    """Convert a public key from PEM, SuperLink's form, to OpenSSH's one-line form.

    "" for no key.
    """
    return public_line(_elliptic(serialization.load_pem_public_key(pem))) if pem else ""


def read_line(line: str) -> ec.EllipticCurvePublicKey:
    """Read a public key in OpenSSH's one-line form.

    Raises:
        ValueError: the line holds no public key, or one of a kind that Flower does not take.
    """
    try:
        return _elliptic(serialization.load_ssh_public_key(line.encode()))
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from None


def _elliptic(key: object) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, CURVES):
        raise ValueError("expected an elliptic-curve key (NIST P-256, P-384 or P-521)")
    return key
