"""``fedtransfer client check``: checks everything that a site needs, and names the remedies."""

import shutil
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import httpx
from cryptography import x509

from fedtransfer.client.consent.countersignature import Countersignature
from fedtransfer.client.consent.exchange_log import ExchangeLog
from fedtransfer.client.deployment.causes import (
    CLOCK_SECONDS,
    cause,
    certificate_cause,
    clock_cause,
    clock_offset,
)
from fedtransfer.client.deployment.fleet import connect
from fedtransfer.client.deployment.keys import load_keys, write_public
from fedtransfer.client.deployment.settings import MECHANISMS, UNPINNED, SiteFolder
from fedtransfer.client.deployment.status import spending_line
from fedtransfer.client.deployment.task import allowed_bundles
from fedtransfer.client.deployment.tls import site_context
from fedtransfer.client.node import site_images
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.feature_table import row_of
from fedtransfer.common.data.images import decode, vector
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.errors import UnknownPreprocessing, UserError
from fedtransfer.common.support.keys import fingerprint, public_line, read_roster
from fedtransfer.common.support.text import counted

DISK_BYTES = 2e9
MEMORY_BYTES = 2e9
WARN_DAYS = 30
NOT_CONNECTED = 3  # exit status if all is well up to the coordinator
# Of the coordinator: each needs those before it, and may pass without anybody's doing at the site.
_ONE_BY_ONE = ("network", "certificate", "clock", "enrolment")


class Finding(NamedTuple):
    """The finding of a check: ``ok``, ``warning`` or ``error``, with a remedy if one is needed."""

    subject: str
    level: str
    text: str


def check_site(site: SiteFolder, *, images: bool = True) -> Iterator[Finding]:
    """Check everything that a site needs, in that order; ``images`` decodes all, which is slow."""
    checks: dict[str, Callable[[SiteFolder], tuple[str, str]]] = {
        "versions": _versions, "allow-list": _allow_list, "disk and memory": _resources, "key": _key,
        "images": lambda site: _images(site, decode_all=images), "consent": _consent, "privacy": _privacy,
        "roster": _roster, "log": _exchanges, "backbone": _backbone, "network": _reach,
        "certificate": _certificate, "clock": _clock, "enrolment": _enrolment,
    }  # fmt: skip
    for subject, check in checks.items():
        try:
            level, text = check(site)
        except UserError as error:
            level, text = "error", str(error)
        yield Finding(subject, level, text)
        if level == "error" and subject in _ONE_BY_ONE:
            return


def exit_status(findings: Iterable[Finding]) -> int:
    """Return the exit status of a check: 1 after an error of the site, NOT_CONNECTED, or 0."""
    errors = {finding.subject for finding in findings if finding.level == "error"}
    return 1 if errors - set(_ONE_BY_ONE) else NOT_CONNECTED if errors else 0


def _versions(site: SiteFolder) -> tuple[str, str]:
    python = ".".join(map(str, sys.version_info[:3]))
    packages = ", ".join(f"{name} {version(name)}" for name in ("fedtransfer", "flwr", "keras"))
    return "ok", f"{packages}, Python {python}"


def _allow_list(site: SiteFolder) -> tuple[str, str]:
    installed = allowed_bundles(["installed"])[0]
    allowed = allowed_bundles(site.settings.consent.bundles)
    if installed not in allowed:
        hashes = ", ".join(f"{hash[:16]}…" for hash in allowed)
        return "warning", f"{hashes}: the installed bundle, {installed[:16]}…, is not on the list"
    return "ok", f"answers runs of bundle {installed[:16]}…, that of the installed fedtransfer"


def _resources(site: SiteFolder) -> tuple[str, str]:
    free, report = shutil.disk_usage(site.folder).free, Path("/proc/meminfo")
    lines = report.read_text().splitlines() if report.exists() else []
    memory = next((1024 * int(line.split()[1]) for line in lines if "MemAvailable" in line), 0)
    text = f"{free / 1e9:.0f} GB of disk free" + (
        f", {memory / 1e9:.0f} GB of memory available" if memory else ""
    )
    if free < DISK_BYTES / 20:
        return "error", f"{text}; features and logs need more: make room, or move the folder"
    if free < DISK_BYTES or (memory and memory < MEMORY_BYTES):
        return "warning", f"{text}; 2 GB of each are recommended"
    return "ok", text


def _key(site: SiteFolder) -> tuple[str, str]:
    write_public(site.key, site.settings.name)
    return "ok", f"{site.key.name}, readable only by you"


def _images(site: SiteFolder, *, decode_all: bool) -> tuple[str, str]:
    problems = list(read_source(site.path(site.settings.data)).problems)
    images = site_images(site)
    counts = Counter(image.label for image in images)
    splits = Counter(image.split for image in images if image.split)
    unreadable = [f"{problem.path}: {problem.reason}" for problem in problems]
    if decode_all:
        for image in images:
            try:
                content = image.read()
                _ = vector(content, len(content)) if row_of(image.path) else decode(content)
            except (OSError, ValueError) as error:
                unreadable.append(f"{image.path}: {getattr(error, 'strerror', None) or error}")
    classes = ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))
    text = f"{counted(len(images), 'image')} of {counted(len(counts), 'class', 'classes')}: {classes}"
    text += f"; split as supplied ({', '.join(sorted(splits))})" if splits else "; split by content"
    if unreadable:
        sample = "; ".join(unreadable[:3]) + (
            f"; and {len(unreadable) - 3} more" if len(unreadable) > 3 else ""
        )
        if site.settings.strict:
            return "error", f"{text}; {len(unreadable)} cannot be read and strict = true: {sample}"
        return "warning", f"{text}; {len(unreadable)} cannot be read and will be left out: {sample}"
    if rare := sorted(name for name, number in counts.items() if number < 5):
        return "warning", (
            f"{text}; few images of {', '.join(rare)}, so an update nearly reveals their features: consider "
            "least-images in site.toml"
        )
    return "ok", text


def _consent(site: SiteFolder) -> tuple[str, str]:
    consent = site.settings.consent
    if missing := sorted(set(consent.demand) - set(MECHANISMS)):
        return "warning", (
            f"you demand {', '.join(missing)}, which this version of fedtransfer does not have: every run "
            "will be refused; correct demand in site.toml"
        )
    methods = ", ".join(consent.methods) or "any method"
    rounds = (
        f"at most {counted(consent.rounds_a_day, 'round')} a day"
        if consent.rounds_a_day
        else "no limit on rounds"
    )
    demand = f"; demands {', '.join(consent.demand)}" if consent.demand else ""
    return "ok", f"{methods}; {rounds}; classes of {consent.least_images} or more images{demand}"


def _roster(site: SiteFolder) -> tuple[str, str]:
    if not site.roster:
        return ("warning" if "masks" in site.settings.consent.demand else "ok"), UNPINNED
    sites = read_roster(site.roster).sites
    key = fingerprint(public_line(load_keys(site.key)[1]))
    peers = sorted(name for name, listed_key in sites.items() if listed_key != key)
    text = f"shares masks only with {', '.join(peers) or 'nobody'}"
    if len(peers) == len(sites):
        return "warning", f"{text}; this site's key, {key}, is not on the roster: does it list an old key?"
    if len(peers) < 2:
        return "warning", f"{text}; a masked sum needs 3 sites"
    return "ok", text


def _privacy(site: SiteFolder) -> tuple[str, str]:
    privacy, spending = site.settings.privacy, spending_line(site)
    if site.settings.consent.least_images > 1 and (
        privacy.epsilon or "image-dp" in site.settings.consent.demand
    ):
        return "error", (
            f"least-images = {site.settings.consent.least_images} excludes --dp image, which this site "
            "demands, so every run is refused; set least-images = 1"
        )
    return "ok", spending


def _exchanges(site: SiteFolder) -> tuple[str, str]:
    exchanges, name = ExchangeLog(site.exchange_log), site.exchange_log.name
    if problems := Countersignature(site).problems():
        return "warning", "; ".join(problems)
    return "ok", f"{name}: {counted(sum(1 for _ in exchanges.entries()), 'message')} so far"


def _backbone(site: SiteFolder) -> tuple[str, str]:
    from fedtransfer.common.backbone.backbone import configured_backbone

    if site.card:
        return "ok", (
            f"ready-made features of {site.card}; a run names their network, or --backbone "
            f"{site.card.backbone}"
        )
    config = site.apply(RunConfig(feature_statistics=site.settings.feature_statistics))
    try:
        backbone = configured_backbone(config)
    except UnknownPreprocessing:
        return "warning", f"{config.backbone}: each run says which pixels it expects, so it is not tried now"
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
            f"{host}:{port} cannot be reached ({error.strerror or error}); is the coordinator up, and may "
            "this machine connect to that port?"
        )


def _certificate(site: SiteFolder) -> tuple[str, str]:
    host, port = _address(site)
    context = site_context(site.authority, site.key)
    try:
        with (
            socket.create_connection((host, port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            certificate = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
    except ssl.SSLCertVerificationError as error:
        return "error", certificate_cause(error, host)
    except (ssl.SSLError, OSError) as error:
        return "error", f"{host}:{port} does not speak TLS ({error}); is this the coordinator's port?"
    left = (certificate.not_valid_after_utc - datetime.now(UTC)).days
    if left < WARN_DAYS:
        remedy = "ask the coordinator's people to run: fedtransfer server renew"
        return "warning", f"valid for only {counted(left, 'day')}; {remedy}"
    return (
        "ok",
        f"signed by {site.authority.name}, for {host}, until {certificate.not_valid_after_utc:%Y-%m-%d}",
    )


def _clock(site: SiteFolder) -> tuple[str, str]:
    context = site_context(site.authority, site.key)
    try:
        offset = clock_offset(httpx.get(f"https://{site.settings.coordinator}/", verify=context))
    except httpx.HTTPError as error:
        return "warning", f"the coordinator does not report its time ({error})"
    if offset is None:
        return "warning", "the coordinator does not report its time"
    if abs(offset) > CLOCK_SECONDS:
        return "error", clock_cause(offset)
    return "ok", "equal to the coordinator's within a few seconds"


def _enrolment(site: SiteFolder) -> tuple[str, str]:
    try:
        with connect(site) as fleet:
            enrolled = fleet.is_enrolled()
    except httpx.HTTPError as error:
        return "error", cause(error, site.settings.coordinator)
    if not enrolled:
        problem = "the coordinator does not know this site's key, or has revoked it"
        return "error", f"{problem}; send its people {site.public_key}"
    return "ok", "the coordinator knows this site's key"


def _address(site: SiteFolder) -> tuple[str, int]:
    host, _, port = site.settings.coordinator.rpartition(":")
    return host.strip("[]"), int(port)
