"""``fedtransfer client check``: all that a site needs, checked one by one, each with its remedy."""

import shutil
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from pathlib import Path

import httpx
from cryptography import x509

from fedtransfer.client.deployment.exchange_log import ExchangeLog
from fedtransfer.client.deployment.fleet import connect
from fedtransfer.client.deployment.keys import load_keys
from fedtransfer.client.deployment.node import site_images
from fedtransfer.client.deployment.settings import MECHANISMS, UNPINNED, SiteFolder
from fedtransfer.client.deployment.status import spent_in_words
from fedtransfer.client.deployment.task import allowed_bundles
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.images import decode
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.keys import fingerprint, public_line
from fedtransfer.common.support.roster import read_roster

DISK_BYTES = 2e9
MEMORY_BYTES = 2e9
WARN_DAYS = 30
CLOCK_SECONDS = 5.0  # Flower refuses signatures whose time is some seconds off


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        what: was checked.
        level: ``ok``, ``warning`` or ``error``.
        text: what was found, and the remedy where one is needed.
    """

    what: str
    level: str
    text: str


def check_site(site: SiteFolder, *, images: bool = True) -> Iterator[Finding]:
    """Check everything that a site needs, in the order in which it is needed.

    Args:
        site: which.
        images: decode every image too, which takes a while the first time.
    """
    yield _try("versions", _versions, site)
    yield _try("allow-list", _allow_list, site)
    yield _try("disk and memory", _resources, site)
    yield _try("key", _key, site)
    yield _try("images", lambda s: _images(s, decode_all=images), site)
    yield _try("consent", _consent, site)
    yield _try("privacy", _privacy, site)
    yield _try("roster", _roster, site)
    yield _try("log", _exchanges, site)
    yield _try("backbone", _backbone, site)
    for what, check in (
        ("network", _reach),
        ("certificate", _certificate),
        ("clock", _clock),
        ("enrolment", _enrolment),
    ):
        finding = _try(what, check, site)
        yield finding
        if finding.level == "error":
            return


def _try(what: str, check: Callable[[SiteFolder], tuple[str, str]], site: SiteFolder) -> Finding:
    try:
        level, text = check(site)
    except UserError as error:
        level, text = "error", str(error)
    return Finding(what, level, text)


def _versions(site: SiteFolder) -> tuple[str, str]:
    python = ".".join(map(str, sys.version_info[:3]))
    named = ", ".join(f"{name} {version(name)}" for name in ("fedtransfer", "flwr", "keras"))
    return "ok", f"{named}, Python {python}"


def _allow_list(site: SiteFolder) -> tuple[str, str]:
    own = allowed_bundles(["installed"])[0]
    allowed = allowed_bundles(site.settings.consent.bundles)
    if own not in allowed:
        return "warning", f"{', '.join(hash[:16] + '…' for hash in allowed)}: not the installed one, {own[:16]}…"
    return "ok", f"answers runs of bundle {own[:16]}…, that of the installed fedtransfer"


def _resources(site: SiteFolder) -> tuple[str, str]:
    free = shutil.disk_usage(site.folder).free
    memory = _memory()
    text = f"{free / 1e9:.0f} GB of disk free" + (f", {memory / 1e9:.0f} GB of memory available" if memory else "")
    if free < DISK_BYTES / 20:
        return "error", f"{text}; features and logs need more: make room, or move the folder"
    if free < DISK_BYTES or (memory and memory < MEMORY_BYTES):
        return "warning", f"{text}; 2 GB of each are wanted"
    return "ok", text


def _memory() -> int:
    path = Path("/proc/meminfo")
    if not path.exists():
        return 0
    return next((1024 * int(line.split()[1]) for line in path.read_text().splitlines() if "MemAvailable" in line), 0)


def _key(site: SiteFolder) -> tuple[str, str]:
    load_keys(site.key)
    return "ok", f"{site.key.name}, readable by you alone"


def _images(site: SiteFolder, *, decode_all: bool) -> tuple[str, str]:
    problems = list(read_source(site.path(site.settings.data)).problems)
    images = site_images(site)
    counts = Counter(image.label for image in images)
    splits = Counter(image.split for image in images if image.split)
    unreadable = [f"{problem.path}: {problem.reason}" for problem in problems]
    if decode_all:
        for image in images:
            try:
                decode(image.read())
            except (OSError, ValueError) as error:
                unreadable.append(f"{image.path}: {getattr(error, 'strerror', None) or error}")
    classes = ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))
    text = f"{len(images)} images of {len(counts)} classes: {classes}"
    text += f"; split as supplied ({', '.join(sorted(splits))})" if splits else "; split by content"
    if unreadable:
        shown = "; ".join(unreadable[:3]) + (f"; and {len(unreadable) - 3} more" if len(unreadable) > 3 else "")
        if site.settings.strict:
            return "error", f"{text}; {len(unreadable)} cannot be read and strict = true: {shown}"
        return "warning", f"{text}; {len(unreadable)} cannot be read and will be left out: {shown}"
    if rare := sorted(name for name, number in counts.items() if number < 5):
        return "warning", (
            f"{text}; with so few images of {', '.join(rare)} an update shows almost those images' features: "
            "consider least-images in site.toml"
        )
    return "ok", text


def _consent(site: SiteFolder) -> tuple[str, str]:
    consent = site.settings.consent
    if missing := sorted(set(consent.demand) - set(MECHANISMS)):
        return "warning", (
            f"you demand {', '.join(missing)}, which this version of fedtransfer does not have: every run will be refused"
        )
    methods = ", ".join(consent.methods) or "any method"
    rounds = f"{consent.rounds_a_day} rounds a day at most" if consent.rounds_a_day else "no bound on rounds"
    demanded = f"; demands {', '.join(consent.demand)}" if consent.demand else ""
    return "ok", f"{methods}; {rounds}; classes of {consent.least_images} or more images{demanded}"


def _roster(site: SiteFolder) -> tuple[str, str]:
    if not site.roster:
        return ("warning" if "masks" in site.settings.consent.demand else "ok"), UNPINNED
    sites = read_roster(site.roster).sites
    own = fingerprint(public_line(load_keys(site.key)[1]))
    others = sorted(name for name, given in sites.items() if given != own)
    text = f"shares masks with {', '.join(others) or 'nobody'} only"
    if len(others) == len(sites):
        return (
            "warning",
            f"{text}; this site's own key, {own}, is not among the {len(sites)}: do they have an old one of it?",
        )
    if len(others) < 2:
        return "warning", f"{text}; a total with masks takes 3 sites"
    return "ok", text


def _privacy(site: SiteFolder) -> tuple[str, str]:
    privacy, spent = site.settings.privacy, spent_in_words(site)
    if site.settings.consent.least_images > 1 and (privacy.epsilon or "image-dp" in site.settings.consent.demand):
        return "error", (
            f"least-images = {site.settings.consent.least_images} and a demand for --dp image: they do not go together, and "
            "every run is refused; set least-images = 1"
        )
    return "ok", spent


def _exchanges(site: SiteFolder) -> tuple[str, str]:
    exchanges, name = ExchangeLog(site.exchange_log), site.exchange_log.name
    if line := exchanges.first_break():
        return "warning", f"{name}: line {line} does not fit the one before; was the file changed?"
    return "ok", f"{name}: {sum(1 for _ in exchanges.entries())} messages so far"


def _backbone(site: SiteFolder) -> tuple[str, str]:
    from fedtransfer.common.backbone.backbone import configured_backbone

    backbone = configured_backbone(site.apply(RunConfig(feature_statistics=site.settings.feature_statistics)))
    return "ok", f"{backbone.name} at {backbone.resolution} px, fingerprint {backbone.fingerprint[:16]}…"


def _reach(site: SiteFolder) -> tuple[str, str]:
    host, port = _address(site)
    began = time.monotonic()
    try:
        with socket.create_connection((host, port), timeout=10):
            return "ok", f"{host}:{port} answers in {1000 * (time.monotonic() - began):.0f} ms"
    except socket.gaierror:
        return "error", f"there is no host named {host!r}; check coordinator in site.toml"
    except OSError as error:
        return "error", (
            f"{host}:{port} cannot be reached ({error.strerror or error}); is the coordinator up, and may this machine "
            "connect to that port?"
        )


def _certificate(site: SiteFolder) -> tuple[str, str]:
    host, port = _address(site)
    if not site.authority.is_file():
        return "error", f"{site.authority}: no such file; ask the coordinator's people for ca.crt"
    try:
        context = ssl.create_default_context(cafile=str(site.authority))
    except ssl.SSLError:
        return "error", f"{site.authority}: no certificate in PEM form; ask the coordinator's people for ca.crt"
    try:
        with (
            socket.create_connection((host, port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            certificate = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
    except ssl.SSLCertVerificationError as error:
        return "error", _tls_remedy(error, host)
    except (ssl.SSLError, OSError) as error:
        return "error", f"{host}:{port} does not speak TLS ({error}); is this the coordinator's port?"
    left = (certificate.not_valid_after_utc - datetime.now(UTC)).days
    if left < WARN_DAYS:
        return "warning", f"valid for {left} days only; tell the coordinator's people: fedtransfer server renew"
    return "ok", f"signed by {site.authority.name}, for {host}, until {certificate.not_valid_after_utc:%Y-%m-%d}"


def _tls_remedy(error: ssl.SSLCertVerificationError, host: str) -> str:
    reason = error.verify_message
    if "expired" in reason:
        return "the coordinator's certificate has expired; its people renew it with: fedtransfer server renew"
    if "Hostname" in reason or "IP address" in reason:
        return (
            f"the coordinator's certificate is not for {host!r}; use the name that it is for, or have it made for this "
            f"one too: fedtransfer server renew --host {host}"
        )
    return (
        f"the coordinator's certificate is not signed by your ca.crt ({reason}); you have another federation's ca.crt, or "
        "somebody stands in between. Compare its SHA-256 with the coordinator's people"
    )


def _clock(site: SiteFolder) -> tuple[str, str]:
    host, port = _address(site)
    try:
        answer = httpx.get(f"https://{host}:{port}/", verify=ssl.create_default_context(cafile=str(site.authority)))
        theirs = parsedate_to_datetime(answer.headers["date"])
    except (httpx.HTTPError, KeyError, ValueError) as error:
        return "warning", f"the coordinator does not tell its time ({error})"
    off = (datetime.now(UTC) - theirs).total_seconds()
    if abs(off) > CLOCK_SECONDS:
        return (
            "error",
            f"this machine's clock is {off:+.0f} s off the coordinator's; signatures would be refused: use NTP",
        )
    return "ok", "the same as the coordinator's, to a few seconds"


def _enrolment(site: SiteFolder) -> tuple[str, str]:
    try:
        with connect(site) as fleet:
            enrolled = fleet.is_enrolled()
    except httpx.HTTPError as error:
        return "error", f"the coordinator does not answer as one ({error}); is {site.settings.coordinator} its address?"
    if not enrolled:
        return "error", (
            f"the coordinator does not know this site's key, or has revoked it; send its people {site.key.with_suffix('.pub')}"
        )
    return "ok", "the coordinator knows this site's key"


def _address(site: SiteFolder) -> tuple[str, int]:
    host, _, port = site.settings.coordinator.rpartition(":")
    return host.strip("[]"), int(port)
