"""The site's key pair. The private key never leaves the site's folder."""

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.keys import public_line

FleetKeys = tuple[ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey]


def make_keys(private: Path, name: str) -> str:
    """Make an EC P-384 key pair: ``private`` (mode 0600), and ``.pub`` with ``name`` as comment.

    Returns:
        The public key in OpenSSH's one-line form.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    # Not by files.write_whole, which would replace a key that is there. Half a key, after a power cut, is no key that
    # load_keys takes, and nobody has enrolled it yet.
    descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
    line = f"{public_line(key.public_key())} {name}"
    private.with_suffix(".pub").write_text(line + "\n", "utf-8")
    return line


def load_keys(private: Path) -> FleetKeys:
    """Load the key pair.

    Raises:
        UserError: the key is missing or damaged, or not only its owner may read it.
    """
    try:
        mode = private.stat().st_mode & 0o077
        key = serialization.load_ssh_private_key(private.read_bytes(), password=None)
    except OSError as error:
        raise UserError(f"{private}: {error.strerror}; fedtransfer client new-key makes a new one") from None
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UserError(
            f"{private}: expected a private key in OpenSSH's form, without a passphrase: {error}; "
            "fedtransfer client new-key makes a new one"
        ) from None
    if mode:
        raise UserError(f"{private}: others on this machine may read it; run: chmod 600 {private}")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UserError(f"{private}: expected an elliptic-curve key; fedtransfer client new-key makes the right kind")
    return key, key.public_key()
