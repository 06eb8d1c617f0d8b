"""The bundle that a coordinator submits to Flower: a name for the code, not the code.

A Flower app bundle usually carries the app, and every site runs the code that it receives. Ours
carries the default settings and the digest of the installed sources, and both sides run their
installed code. A site compares 64 hexadecimal digits with those of its own installation. Another
version of fedtransfer is another bundle.
"""

import hashlib
import io
import zipfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

import tomli_w
from flwr.cli.build import build_fab_from_files

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError

PACKAGES = ("client", "common", "server")
PUBLISHER = "fedtransfer"
SOURCES_HEADER = "fedtransfer-sources"  # both sides name their version in HTTP: ``sources_digest``
_SOURCES = (".py", ".ll")  # what is run: Python, and what is translated to machine code
_DATE = (1980, 1, 1, 0, 0, 0)

_APP = '''"""{name} of the fedtransfer that is installed here."""

from fedtransfer.common.wire.bundle import refuse_other_sources

refuse_other_sources("{digest}")

from fedtransfer.{package}.app import app  # noqa: E402

__all__ = ["app"]
'''


@cache
def sources_digest() -> str:
    """Return the SHA-256 over the installed source files of server, client and common."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted(path for path in (root / package).rglob("*") if path.suffix in _SOURCES):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def refuse_other_sources(digest: str) -> None:
    """Check a bundle's digest. Raises UserError: it is of other sources than the installed."""
    if digest != sources_digest():
        raise UserError(
            f"the bundle was made for sources {digest[:16]}…, installed here are {sources_digest()[:16]}… "
            f"(fedtransfer {version('fedtransfer')}); install the same version on both sides"
        )


def build_bundle() -> tuple[bytes, str]:
    """Build the bundle of the installed fedtransfer; return it and its hash, Flower's name for it.

    The archive is not compressed, so its bytes do not depend on a machine's compression library.
    """
    components = {"serverapp": "bundle_server:app", "clientapp": "bundle_client:app"}
    app = {"publisher": PUBLISHER, "components": components, "config": RunConfig().to_flat()}
    project = {"name": "fedtransfer", "version": version("fedtransfer"), "license": "Apache-2.0"}
    files = {"pyproject.toml": tomli_w.dumps({"project": project, "tool": {"flwr": {"app": app}}}).encode()}
    for package, name in (("server", "The ServerApp"), ("client", "The ClientApp")):
        code = _APP.format(name=name, package=package, digest=sources_digest())
        files[f"bundle_{package}.py"] = code.encode()
    built, _ = build_fab_from_files(files)
    archive = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(built)) as source,
        zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as target,
    ):
        for name in source.namelist():
            target.writestr(zipfile.ZipInfo(name, _DATE), source.read(name))
    bundle = archive.getvalue()
    return bundle, hashlib.sha256(bundle).hexdigest()
