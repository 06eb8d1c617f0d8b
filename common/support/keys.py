"""Keys of sites: fingerprints, which people at both ends compare, signatures, and rosters.

Sites that share masks sign messages that the coordinator could forge: ECDSA with SHA-384 (FIPS
186-5) under the key by which a site is enrolled. That key also signs the site's requests to
Flower's SuperLink. Data signed here begins with ``DOMAIN`` or ``RENEWAL``, so that no signature is
ever valid for another purpose.
"""

import base64
import hashlib
import re
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import tomli_w
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import Field, field_validator

from fedtransfer.common.config.toml_settings import Table, read_settings
from fedtransfer.common.errors import UserError

CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)  # those that Flower takes
DOMAIN = b"fedtransfer secure aggregation, version 1\0"
RENEWAL = b"fedtransfer key renewal, version 1\0"
_SCHEME = ec.ECDSA(hashes.SHA384())
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


def fingerprint(line: str) -> str:
    """Return ``SHA256:…`` of a public key in OpenSSH's one-line form."""
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def public_line(key: ec.EllipticCurvePublicKey) -> str:
    """Return a public key in OpenSSH's one-line form, without a comment."""
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def line_of_pem(pem: bytes) -> str:
    """Convert a public key from PEM, SuperLink's form, to OpenSSH's one line; "" for no key."""
    return public_line(_elliptic(serialization.load_pem_public_key(pem))) if pem else ""


def read_line(line: str) -> ec.EllipticCurvePublicKey:
    """Read a public key in OpenSSH's one-line form. Raises ValueError: Flower takes no such key."""
    try:
        return _elliptic(serialization.load_ssh_public_key(line.encode()))
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from None


def _elliptic(key: object) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, CURVES):
        raise ValueError("expected an elliptic-curve key (NIST P-256, P-384 or P-521)")
    return key


def close_keys(*paths: Path) -> list[str]:
    """Take keys that others on this machine may read from them; return a sentence for each.

    A key that is offline, or hidden from this process, is passed over.

    Raises:
        UserError: this user may not change a key's mode.
    """
    sentences = []
    for path in paths:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue
        if mode & 0o077:
            try:
                path.chmod(0o600)
            except OSError:
                raise UserError(
                    f"{path}: others on this machine may read it (mode {mode:04o}); run: chmod 600 {path}"
                ) from None
            sentences.append(
                f"{path}: others on this machine might read it (mode {mode:04o}), from now on only its owner "
                "may; if somebody may have copied it, see docs/security.md, If something is lost"
            )
    return sentences


class Identity(Protocol):
    """A site as the sites that it shares masks with know it."""

    def sign(self, data: bytes) -> bytes:
        """Sign as this site."""

    def verify(self, site: str, data: bytes, signature: bytes) -> None:
        """Check that ``site`` signed ``data``. Raises SiteError: it did not, or is not known."""


def sign(key: ec.EllipticCurvePrivateKey, data: bytes, domain: bytes = DOMAIN) -> bytes:
    """Sign data for a purpose; the signature is DER-encoded, about 100 bytes for P-384."""
    return key.sign(domain + data, _SCHEME)


def is_signed(key: ec.EllipticCurvePublicKey, data: bytes, signature: bytes, domain: bytes = DOMAIN) -> bool:
    """Return whether the owner of a public key signed ``data`` for a purpose."""
    try:
        key.verify(signature, domain + data, _SCHEME)
    except InvalidSignature:
        return False
    return True


class Roster(Table):
    """``roster.toml``: a table ``[sites]`` with a line for each, ``st-elsewhere = "SHA256:…"``."""

    sites: dict[str, str] = Field(min_length=1)

    @field_validator("sites")
    @classmethod
    def _distinct_keys(cls, sites: dict[str, str]) -> dict[str, str]:
        if invalid := [name for name, key in sites.items() if not _FINGERPRINT.fullmatch(key)]:
            raise ValueError(
                f"{', '.join(invalid)}: expected SHA256: and 43 characters, as client init prints it"
            )
        if duplicates := [key for key, times in Counter(sites.values()).items() if times > 1]:
            names = ", ".join(name for name, key in sites.items() if key == duplicates[0])
            raise ValueError(f"{names} have the same key; a site with two names would count as two")
        return sites


def read_roster(path: Path) -> Roster:
    """Read a roster. Raises UserError: the file is missing or invalid."""
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; "
            "expected a roster, as fedtransfer server roster prints it at the coordinator"
        )
    return read_settings(path, Roster)


def roster_text(fingerprints: Mapping[str, str]) -> str:
    """Return the text of a roster of these sites, name → fingerprint."""
    return (
        "# Sites that share masks, with the fingerprints of their keys. "
        "Before you rely on it, compare each fingerprint\n"
        "# with that site's own people (theirs: fedtransfer client roster), "
        "by telephone, and not with the coordinator's.\n"
        + tomli_w.dumps({"sites": dict(sorted(fingerprints.items()))})
    )
