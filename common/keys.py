"""A public key's fingerprint, as ``ssh-keygen -lf`` shows it: what people at both ends compare."""

import base64
import hashlib


def fingerprint(line: str) -> str:
    """Return ``SHA256:…`` of a public key in OpenSSH's one-line form."""
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
