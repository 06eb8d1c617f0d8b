"""``roster.toml``: sites by name, with the fingerprints of their keys, which people compare.

[sites]
st-elsewhere = "SHA256:…"
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import tomli_w
from pydantic import Field, field_validator

from fedtransfer.common.config.toml_settings import Table, read_settings
from fedtransfer.common.errors import UserError

_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


class Roster(Table):
    """The file.

    Attributes:
        sites: name → fingerprint of its key.
    """

    sites: dict[str, str] = Field(min_length=1)

    @field_validator("sites")
    @classmethod
    def _distinct_keys(cls, sites: dict[str, str]) -> dict[str, str]:
        if invalid := [name for name, key in sites.items() if not _FINGERPRINT.fullmatch(key)]:
            raise ValueError(f"{', '.join(invalid)}: expected SHA256: and 43 characters, as client init prints it")
        if duplicates := [key for key, times in Counter(sites.values()).items() if times > 1]:
            names = ", ".join(name for name, key in sites.items() if key == duplicates[0])
            raise ValueError(f"{names} have the same key; a site with two names would count as two")
        return sites


def read_roster(path: Path) -> Roster:
    """Read a roster.

    Raises:
        UserError: the file is missing or invalid.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; expected a roster, as fedtransfer server roster prints it at the coordinator"
        )
    return read_settings(path, Roster)


def roster_text(fingerprints: Mapping[str, str]) -> str:
    """Return the text of a roster of these sites, name → fingerprint."""
    return (
        "# Sites that share masks, with the fingerprints of their keys. Before you rely on it, compare each fingerprint\n"
        "# with that site's own people (theirs: fedtransfer client roster), by telephone, and not with the coordinator's.\n"
        + tomli_w.dumps({"sites": dict(sorted(fingerprints.items()))})
    )
