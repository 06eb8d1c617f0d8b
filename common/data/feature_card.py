"""The card of a features file: what made its features.

It is a JSON text, ``{"name": …, "width": …, "sha256": …}``, in each kind of file under the name
``fedtransfer``. It takes the place of a backbone's fingerprint. As the backbone of a run it is
written ``NAME-features-WIDTH@HASH``.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from fedtransfer.common.config.settings.training import READY_MADE
from fedtransfer.common.errors import UserError

EXAMPLE = '{"name": "uni2-h", "width": 1536, "version": "1.0"}'
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEYS = {"name": str, "width": int, "sha256": str, "version": str, "resolution": int, "rows": int}


@dataclass(frozen=True)
class FeatureCard:
    """The network that made features."""

    name: str  # letters, digits, and any of ``_.-``
    width: int  # d, the length of a feature vector
    version: str  # 64 hexadecimal digits, the SHA-256 of the network; or a name of its version; or ""
    resolution: int = 0  # pixels a side that images had; 0 if the file does not say
    rows: int = 0  # the number of rows that the file should have; 0 if it does not say

    @property
    def sha256(self) -> str:
        """The fingerprint of the network; "" if only its version is known."""
        return self.version if _SHA256.fullmatch(self.version) else ""

    @property
    def backbone(self) -> str:
        """The name of the backbone of a run on such features."""
        return f"{self.name}-features-{self.width}" + (f"@{self.version}" if self.version else "")

    def __str__(self) -> str:
        kind = "sha256" if self.sha256 else "version"
        network = f"{self.name or 'an unnamed network'}, width {self.width}"
        return f"{network}, {kind} {self.version}" if self.version else network

    def to_json(self) -> str:
        """Return the text that a file holds."""
        values = {"name": self.name, "width": self.width, "sha256": self.sha256}
        values["version"] = "" if self.sha256 else self.version
        values |= {"resolution": self.resolution, "rows": self.rows}
        return json.dumps({key: value for key, value in values.items() if value})


def card_of(backbone: str) -> FeatureCard | None:
    """Return the card that a run's backbone says; None if it is a network."""
    match = READY_MADE.fullmatch(backbone)
    return FeatureCard(match["name"] or "", int(match["width"]), match["version"] or "") if match else None


def read_card(text: str | None, path: str) -> FeatureCard:
    """Read the card of a features file, in which other characters of names become ``_``.

    Raises:
        UserError: it is missing, is no such JSON, or lacks a name, a width, or hash and version.
    """
    remedy = f'expected a JSON text under the name "fedtransfer", such as {EXAMPLE}, or with "sha256"'
    if text is None:
        raise UserError(f"{path}: it does not say what made its features; {remedy}")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: what it says of its features is not JSON ({error}); {remedy}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: got {text[:100]} as what made its features; {remedy}")
    for key, kind in _KEYS.items():
        if type(values.get(key, kind())) is not kind:
            raise UserError(f"{path}: got {key} {values[key]!r} of what made its features; {remedy}")
    missing = [key for key in ("name", "width") if not values.get(key)]
    missing += [] if values.get("sha256") or values.get("version") else ["sha256 or version"]
    if missing or values["width"] < 1:
        names = ", no ".join(missing or ["width"])
        raise UserError(f"{path}: what it says of its features has no {names}; {remedy}")
    sha256 = values.get("sha256", "").lower()
    if sha256 and not _SHA256.fullmatch(sha256):
        raise UserError(
            f"{path}: got sha256 {sha256[:100]!r}; expected 64 hexadecimal digits, or a version in its place"
        )
    return FeatureCard(
        _plain(values["name"]), values["width"], sha256 or _plain(values["version"]),
        max(0, values.get("resolution", 0)), max(0, values.get("rows", 0)),
    )  # fmt: skip


def _plain(text: Any) -> str:
    return re.sub(r"[^\w.-]+", "_", str(text)).strip("-") or "_"


def backbone_words(name: str, resolution: int | str) -> str:
    """Return a backbone in words: ``NAME at R px``, or ``ready-made features of …``."""
    card = card_of(name)
    return f"ready-made features of {card}" if card else f"{name} at {resolution} px"
