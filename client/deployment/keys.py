"""The site's key pair, and its identity among the sites that share masks.

The private key never leaves the site's folder. The coordinator enrols keys and says which belongs
to whom, so it could invent sites and share masks with itself. A site with a roster, which it got
from the other sites' people, refuses all keys that are not on it.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.support.files import write_whole
from fedtransfer.common.support.keys import (
    Roster,
    fingerprint,
    is_signed,
    public_line,
    read_line,
    read_roster,
    sign,
)

_NAME_LENGTH = 64  # characters that are printed of a name from outside


def make_keys(private: Path, name: str) -> str:
    """Make an EC P-384 key pair: ``private`` (mode 0600), and ``.pub`` with ``name`` as comment.

    Return the public key in OpenSSH's one-line form.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    # Not by files.write_whole, which would replace a key that is there. Half a key, after a power
    # cut, is no key that load_keys takes, and nobody has enrolled it: it is whole on return.
    descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
        file.flush()
        os.fsync(descriptor)
    return write_public(private, name)


def write_public(private: Path, name: str) -> str:
    """Write ``.pub`` of a private key, with ``name`` as comment, unless it is there and whole.

    Return the public key in OpenSSH's one-line form.

    Raises:
        UserError: the private key cannot be read.
    """
    path, line = private.with_suffix(".pub"), public_line(load_keys(private)[1])
    with suppress(OSError, UnicodeDecodeError):
        text = path.read_text("utf-8").strip()
        if text == line or text.startswith(f"{line} "):
            return text
    write_whole(path, f"{line} {name}\n")
    return f"{line} {name}"


def load_keys(private: Path) -> tuple[ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey]:
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
        raise UserError(
            f"{private}: expected an elliptic-curve key; fedtransfer client new-key makes the right kind"
        )
    return key, key.public_key()


@dataclass(frozen=True)
class SiteIdentity:
    """The site's private key, and public keys of the sites that it shares masks with, by name."""

    key: ec.EllipticCurvePrivateKey
    peers: Mapping[str, ec.EllipticCurvePublicKey]

    def sign(self, data: bytes) -> bytes:
        """Sign as this site."""
        return sign(self.key, data)

    def verify(self, site: str, data: bytes, signature: bytes) -> None:
        """Check that ``site`` signed ``data``.

        Raises:
            SiteError: it did not, or the coordinator gave no key for it.
        """
        if site not in self.peers:
            raise SiteError("unknown-peer", f"the coordinator gave no key for {site[:_NAME_LENGTH]!r}")
        if not is_signed(self.peers[site], data, signature):
            raise SiteError(
                "wrong-signature",
                f"a message in the name of {site[:_NAME_LENGTH]!r} is not signed with its key; the "
                "coordinator, or somebody at its machine, has changed or forged it",
            )


def identity_among(site: SiteFolder, name: str, public_keys: Mapping[str, str]) -> SiteIdentity:
    """Return the site's identity among others.

    The coordinator gives its enrolled ``name``, and site → public key (OpenSSH's one-line form) of
    the sites that share masks, among which the site itself may be.

    Raises:
        SiteError: a key is invalid, two names have the same key, or the site's roster differs.
        UserError: the site's key or its roster cannot be read.
    """
    key, public_key = load_keys(site.key)
    peers = {peer: _read(peer, line) for peer, line in public_keys.items()}
    lines = {name: public_line(public_key)} | {peer: public_line(public) for peer, public in peers.items()}
    if lines[name] != public_line(public_key):
        raise SiteError("other-key", "the coordinator gives this site's name another key than this site has")
    if len(set(lines.values())) < len(lines):
        raise SiteError(
            "same-key", "the coordinator gives several names the same key; a site would count as two"
        )
    if site.roster:
        roster = read_roster(site.roster)
        for peer, line in lines.items():
            if peer != name:
                _refuse_unlisted(roster, peer, fingerprint(line))
    return SiteIdentity(key, peers)


def _refuse_unlisted(roster: Roster, peer: str, key: str) -> None:
    """Refuse to share masks with ``peer``, unless the roster lists it with this fingerprint."""
    subject = f"{peer[:_NAME_LENGTH]!r}, to which the coordinator gives key {key},"
    if peer not in roster.sites:
        raise SiteError(
            "not-on-roster",
            f"{subject} is not on this site's roster, so this site shares no masks with it; this site's "
            "people compare the fingerprint with that site's by telephone and add it to roster.toml, or the "
            "run goes without that site",
        )
    if roster.sites[peer] != key:
        raise SiteError(
            "not-on-roster",
            f"{subject} has another key on this site's roster; if it has a new one, this site's people "
            "compare the fingerprint with that site's by telephone and change roster.toml; else somebody "
            "poses as it",
        )


def _read(peer: str, line: str) -> ec.EllipticCurvePublicKey:
    try:
        return read_line(line)
    except ValueError:
        raise SiteError(
            "no-key", f"the coordinator sent an invalid public key for {peer[:_NAME_LENGTH]!r}"
        ) from None
