"""Enrolled sites: one public key each, in ``sites/NAME.pub``; SuperLink follows that folder."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import write_whole
from fedtransfer.common.support.keys import CURVES, fingerprint
from fedtransfer.common.support.text import counted
from fedtransfer.server.deployment.audit_log import ENROLLED, REVOKED, person, record
from fedtransfer.server.deployment.coordinator import Coordinator

WARN_DAYS = 30
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class EnrolledSite:
    """An enrolled site: its name, and its public key as PEM and in OpenSSH's one-line form."""

    name: str
    pem: bytes
    line: str

    @property
    def fingerprint(self) -> str:
        """The fingerprint that people at both ends compare over the telephone."""
        return fingerprint(self.line)


def enrolled_sites(coordinator: Coordinator) -> list[EnrolledSite]:
    """Return the enrolled sites, in name order. Raises UserError: a key file is damaged."""
    sites, damaged = readable_sites(coordinator)
    if damaged:
        raise UserError("\n".join(damaged))
    return sites


def readable_sites(coordinator: Coordinator) -> tuple[list[EnrolledSite], list[str]]:
    """Return the enrolled sites, in name order, and a sentence for each damaged key file."""
    sites, damaged = [], []
    for path in coordinator.key_files:
        try:
            sites.append(read_site(path, path.stem))
        except UserError as error:
            damaged.append(str(error))
    return sites, damaged


def enrol(coordinator: Coordinator, key: Path, name: str = "") -> EnrolledSite:
    """Enrol a site by its public key file, under ``name``, or under the key's comment.

    Raises:
        UserError: Flower does not accept the key, the name is invalid, or either is enrolled.
    """
    site = read_site(key, name)
    for enrolled in enrolled_sites(coordinator):
        if enrolled.pem == site.pem:
            remedy = "every site needs a key of its own: fedtransfer client init makes one"
            raise UserError(f"{key}: this key is enrolled already, as {enrolled.name}; {remedy}")
        if enrolled.name == site.name:
            taken = f"a site named {site.name} is enrolled already, with another key"
            remedy = f"revoke that one first: fedtransfer server revoke {site.name}"
            raise UserError(f"{taken}; give this one another --name, or {remedy}")
    if any(read_site(path, site.name).pem == site.pem for path in _revoked(coordinator).glob("*.pub")):
        remedy = "the site makes a new one with fedtransfer client new-key"
        raise UserError(
            f"{key}: this key was revoked, and Flower never accepts a revoked key again; {remedy}"
        )
    record(coordinator, ENROLLED, site=site.name, key=site.fingerprint, by=person())
    write_whole(coordinator.folder / "sites" / f"{site.name}.pub", site.line + "\n")
    return site


def revoke(coordinator: Coordinator, name: str) -> None:
    """Revoke a site's enrolment, and move its key to ``sites/revoked/``.

    Raises:
        UserError: no site of that name is enrolled.
    """
    path = coordinator.folder / "sites" / f"{name}.pub"
    if not _NAME.fullmatch(name) or not path.is_file():
        names = ", ".join(site.name for site in enrolled_sites(coordinator)) or "none"
        raise UserError(f"no site named {name!r} is enrolled; enrolled sites: {names}")
    record(coordinator, REVOKED, site=name, by=person())
    path.rename(_revoked_path(coordinator, name))


def replace_key(coordinator: Coordinator, site: EnrolledSite, line: str) -> EnrolledSite:
    """Replace a site's key by its next one, in OpenSSH's form; the old one is revoked.

    Raises:
        ValueError: the key is that of another site, or was revoked.
    """
    others = [*coordinator.key_files, *_revoked(coordinator).glob("*.pub")]
    if any(path.read_text("utf-8").split()[:2] == line.split()[:2] for path in others):
        raise ValueError("its key is enrolled already, or was revoked")
    path = coordinator.folder / "sites" / f"{site.name}.pub"
    write_whole(_revoked_path(coordinator, site.name), site.line + "\n")
    write_whole(path, f"{line} {site.name}\n")
    return read_site(path, site.name)


def key_warnings(coordinator: Coordinator) -> list[str]:
    """Warn of keys that reach the end of their lifetime within ``WARN_DAYS`` days, or have."""
    days, warnings = coordinator.settings.key_days, []
    for path in coordinator.key_files if days else ():
        enrolled = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        left = days - (datetime.now(UTC) - enrolled).days
        if left <= WARN_DAYS:
            when = f"ends in {counted(left, 'day')}" if left > 0 else "has ended"
            warnings.append(
                f"the lifetime of the key of {path.stem} {when}; there: fedtransfer client new-key --renew"
            )
    return warnings


def _revoked(coordinator: Coordinator) -> Path:
    return coordinator.folder / "sites" / "revoked"


def _revoked_path(coordinator: Coordinator, name: str) -> Path:
    _revoked(coordinator).mkdir(exist_ok=True)
    return _revoked(coordinator) / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.pub"


def read_site(path: Path, name: str) -> EnrolledSite:
    """Read a public key file, of the site called ``name``, or as the key's comment says.

    Raises:
        UserError: it is no key that Flower accepts, or the name is invalid.
    """
    try:
        line = path.read_text("utf-8", "replace").strip()
        key = serialization.load_ssh_public_key(line.encode())
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; expected a site's public key file, such as site.pub"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        hint = (
            "this looks like a PRIVATE key, which must never leave its site"
            if "PRIVATE" in line
            else "got no key"
        )
        raise UserError(
            f"{path}: expected a public key in OpenSSH's form (ecdsa-sha2-nistp384 …); {hint}; ask for the "
            "file site.pub"
        ) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, CURVES):
        raise UserError(
            f"{path}: expected an elliptic-curve key (NIST P-256, P-384 or P-521), got {line.split()[0]}; "
            "fedtransfer client init makes the right kind"
        )
    words = line.split(maxsplit=2)
    name = name or (words[2] if len(words) > 2 else "")
    if not _NAME.fullmatch(name):
        remedy = "give one of letters, digits, '.', '_' and '-' with --name"
        raise UserError(f"{path}: {name!r} cannot be a site's name; {remedy}")
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return EnrolledSite(name, pem, " ".join([*words[:2], name]))
