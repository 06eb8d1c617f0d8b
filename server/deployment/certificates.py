"""The federation's own certificate authority, and the server certificate that it signs.

ca.key       the authority's key            in a folder of its own, which may be offline
ca.crt       the authority's certificate    every site has a copy, which identifies the coordinator
server.key   the coordinator's key          a new one with each server certificate
server.crt   the coordinator's certificate

Both keys are unencrypted on the disk, readable by their owner only (mode 0600). server.key must be,
because the coordinator starts unattended. Whoever reads ca.key can impersonate the coordinator; it
signs server certificates, once a year, and nothing else reads it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import replacements

CA_DAYS = 3650
SERVER_DAYS = 397  # thirteen months, so that yearly renewal has a month to spare
WARN_DAYS = 30

_Key = ec.EllipticCurvePrivateKey
_CLOCK_SKEW = timedelta(hours=1)
_RENEW_AUTHORITY = "run fedtransfer server renew --authority, then give every site the new ca.crt"
_LONGEST_NAME = 64  # X.509's limit for a common name
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
# Digits alone at the end: a mistyped address.
_HOST = re.compile(rf"(?=.{{1,253}}\Z)({_LABEL}\.)*(?![0-9]+\Z){_LABEL}")
_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


@dataclass(frozen=True)
class Validity:
    """What the certificate in a file is valid for."""

    path: Path
    hosts: tuple[str, ...]  # names and addresses; none for an authority
    not_after: datetime  # in UTC
    sha256: str  # its fingerprint, as colon-separated upper-case hex

    @property
    def days_left(self) -> int:
        """Whole days until it expires; negative after that."""
        return (self.not_after - datetime.now(UTC)).days


def make_authority(folder: Path, name: str, days: int = CA_DAYS, *, key_file: Path | None = None) -> None:
    """Make ``ca.crt`` of an authority called ``name``, valid for ``days`` days, and its key.

    ``key_file`` is the key's, by default ``ca.key`` in the folder, here and below.

    Raises:
        UserError: there is such a key file, a folder cannot be written, or the name has a wrong
            length.
    """
    key_file = key_file or folder / "ca.key"
    if key_file.exists():
        why = "already exists, and sites trust its signatures; keep it, or choose another folder"
        raise UserError(f"{key_file} {why}")
    if not 1 <= len(name.encode()) <= _LONGEST_NAME:
        raise UserError(f"authority {name!r}: expected a name of 1 to {_LONGEST_NAME} bytes; choose another")
    try:
        key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        remedy = f"make it, and try again: sudo install -d -m 700 -o $USER {key_file.parent}"
        raise UserError(f"{key_file.parent}, for ca.key: {error.strerror}; {remedy}") from None
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = _self_signed(key, _subject(name), days)
    _write_together({key_file: _pem(key), folder / "ca.crt": certificate})


def renew_authority(folder: Path, days: int = CA_DAYS, *, key_file: Path | None = None) -> None:
    """Replace ``ca.crt`` by one with the same key and name, valid for ``days`` days from now.

    Signatures of the authority are valid under both, so sites need the new file only before the old
    one expires.

    Raises:
        UserError: the folder has no authority or cannot be written.
    """
    key, old = _read_authority(folder, key_file)
    _write_together({folder / "ca.crt": _self_signed(key, old.subject, days)})


def issue_server_certificate(
    folder: Path, hosts: Sequence[str], days: int = SERVER_DAYS, *, now: datetime | None = None,
    key_file: Path | None = None,
) -> None:  # fmt: skip
    """Write a new ``server.key`` and ``server.crt`` next to ``ca.crt``, whose authority signs them.

    Args:
        folder: the folder of the three.
        hosts: names and addresses by which sites reach the coordinator; this machine's are added.
        days: its validity in days, at most that of the authority.
        now: the time of issue, with a time zone; None for the present.
        key_file: the authority's key.

    Raises:
        UserError: a host is invalid, the authority is missing or expired, or writing fails.
    """
    names = list(dict.fromkeys(_general_name(host) for host in (*hosts, *_THIS_MACHINE)))
    authority_key, authority = _read_authority(folder, key_file)
    now, end = now or datetime.now(UTC), authority.not_valid_after_utc
    if end <= now:
        expired = f"{folder / 'ca.crt'} expired on {end:%Y-%m-%d}"
        raise UserError(f"{expired}, so it can sign nothing; {_RENEW_AUTHORITY}")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign(
        key, _subject("fedtransfer coordinator"), authority_key, authority.subject, now,
        min(now + timedelta(days), end), x509.BasicConstraints(ca=False, path_length=None),
        _usage("digital_signature"), x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
        x509.SubjectAlternativeName(names),
    )  # fmt: skip
    _write_together({folder / "server.key": _pem(key), folder / "server.crt": certificate})


def read_certificate(path: Path) -> Validity:
    """Read a certificate; raise a UserError if the file is missing, or is not one."""
    certificate = _load(path)
    extensions = (extension.value for extension in certificate.extensions)
    return Validity(
        path=path,
        hosts=tuple(
            str(n.value) for e in extensions if isinstance(e, x509.SubjectAlternativeName) for n in e
        ),
        not_after=certificate.not_valid_after_utc,
        sha256=certificate.fingerprint(SHA256()).hex(":").upper(),
    )


def expiry_warnings(folder: Path) -> list[str]:
    """Return a sentence for each certificate with less than WARN_DAYS days left.

    Raises:
        UserError: a file is missing, or is not a certificate.
    """
    warnings = []
    for name, remedy in (("ca.crt", _RENEW_AUTHORITY), ("server.crt", "run fedtransfer server renew")):
        validity = read_certificate(folder / name)
        day, left = f"{validity.not_after:%Y-%m-%d}", validity.days_left
        if left < 0:
            warnings.append(f"{validity.path} expired on {day}, so no site can connect; {remedy}")
        elif left < WARN_DAYS:
            warnings.append(f"{validity.path} expires on {day} (days left: {left}); {remedy}")
    return warnings


def refuse_expired(folder: Path) -> None:
    """Raise a UserError if the server's certificate has expired."""
    if read_certificate(folder / "server.crt").not_after < datetime.now(UTC):
        why = "the server's certificate has expired, so no site would connect"
        raise UserError(f"{why}; run: fedtransfer server renew")


def _self_signed(key: _Key, subject: x509.Name, days: int) -> bytes:
    now = datetime.now(UTC)
    constraints, usage = x509.BasicConstraints(ca=True, path_length=0), _usage("key_cert_sign", "crl_sign")
    return _sign(key, subject, key, subject, now, now + timedelta(days), constraints, usage)


def _sign(
    key: _Key, subject: x509.Name, issuer_key: _Key, issuer: x509.Name, now: datetime, end: datetime,
    *extensions: x509.ExtensionType,
) -> bytes:  # fmt: skip
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - _CLOCK_SKEW).not_valid_after(end)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # From the issuer's key, not its certificate: signatures stay valid under a renewed certificate.
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    for extension in (identifier, signer, *extensions):
        builder = builder.add_extension(
            extension, isinstance(extension, x509.BasicConstraints | x509.KeyUsage)
        )
    return builder.sign(issuer_key, SHA384()).public_bytes(Encoding.PEM)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*usages: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in usages for usage in _USAGES})


def check_hosts(hosts: Sequence[str]) -> None:
    """Raise a UserError if a certificate cannot be made for one of these names and addresses."""
    for host in hosts:
        _general_name(host)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    if not _HOST.fullmatch(host.lower()):
        raise UserError(
            f"host {host!r}: expected a host name or an IP address alone, as in fl.example.org or 192.0.2.7; "
            "leave out scheme, port, path and brackets, and write letters beyond ASCII in their xn-- form"
        )
    return x509.DNSName(host.lower())


def _read_authority(folder: Path, key_file: Path | None) -> tuple[_Key, x509.Certificate]:
    path = key_file or folder / "ca.key"
    certificate = _load(folder / "ca.crt")
    if not path.exists():
        remedy = "bring it back for the renewal, or write its place as authority-key in coordinator.toml"
        raise UserError(f"{path}: no such file; expected the authority's key; {remedy}")
    try:
        key = load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError):
        raise UserError(
            f"{path}: expected an unencrypted private key in PEM; restore it from a backup"
        ) from None
    if path.stat().st_mode & 0o077:
        raise UserError(f"{path}: others on this machine may read it; run: chmod 600 {path}")
    if not isinstance(key, _Key) or key.public_key() != certificate.public_key():
        raise UserError(f"{path} is not the key of {folder / 'ca.crt'}; restore both from the same backup")
    return key, certificate


def _load(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read(path))
    except ValueError:
        raise UserError(f"{path}: expected a certificate in PEM; restore it from a backup") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        expected = "expected a file that fedtransfer server init made"
        remedy = "name the right folder, or restore the file from a backup"
        raise UserError(f"{path}: cannot be read: {error.strerror}; {expected}; {remedy}") from None


def _write_together(files: Mapping[Path, bytes]) -> None:
    """Replace files once all new ones are written. At no moment can others read a key."""
    modes = {path: 0o600 if path.suffix == ".key" else 0o644 for path in files}
    folder = [*files][-1].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacements(modes) as temporaries:
            for temporary, content in zip(temporaries, files.values(), strict=True):
                temporary.write_bytes(content)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}; choose another folder") from None


def _pem(key: _Key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
