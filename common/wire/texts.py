"""Texts from the other side: each kind has a length and an alphabet, checked where they enter.

The type of a field says which: a ``Name`` is for people to read, a ``Token`` for programs, and a
``Text`` explains something. So no text can fill a log, break a table or steer a terminal.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from fedtransfer.common.errors import SiteError
from fedtransfer.common.support.text import is_printable, printable

Name = Annotated[str, "name"]  # of a class, a site, a layer, an array
Token = Annotated[str, "token"]  # a digest, a key, a signature, a message type
Text = Annotated[str, "text"]  # a refusal, or a backbone, which may be a path

LENGTHS = {Name: 255, Token: 1000, Text: 1000}  # characters
MOST = 2**17  # entries of a list, such as class names
SETTING, CLASS_NAMES = 4096, 200_000  # characters of a run's setting, and of its class names
SETTINGS = 500  # of a run; there are about a hundred
_TOKEN = re.compile(r"[0-9A-Za-z._:/+=@ -]*", re.ASCII)
_CODE = re.compile(r"[a-z0-9-]{1,40}", re.ASCII)


def name(value: Any) -> str:
    """Check a name. Raises ValueError: it is too long, or has characters that do not print."""
    return _printing(value, "name", LENGTHS[Name])


def token(value: Any) -> str:
    """Check a token. Raises ValueError: it is too long, or has other than plain characters."""
    text = _short(value, "token", LENGTHS[Token])
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"the token '{printable(text, 40)}', expected letters, digits and ._:/+=@ -")
    return text


def text(value: Any) -> str:
    """Check an explanation. Raises ValueError as ``name`` does."""
    return _printing(value, "text", LENGTHS[Text])


def code(value: Any) -> str:
    """Check the code of a refusal. Raises ValueError: it is not 1 to 40 of ``a-z0-9-``."""
    if not isinstance(value, str) or not _CODE.fullmatch(value):
        raise ValueError("a refusal whose code is not of 1 to 40 small letters, digits and hyphens")
    return value


def names(values: Iterable[Any]) -> tuple[str, ...]:
    """Check several names. Raises ValueError: one is invalid, or there are more than ``MOST``."""
    return tuple(map(name, few(values)))


def tokens(values: Iterable[Any]) -> tuple[str, ...]:
    """Check several tokens; see ``names``."""
    return tuple(map(token, few(values)))


def few(values: Any) -> Any:
    """Check a list's length. Raises ValueError: it has more than ``MOST`` entries."""
    if len(values) > MOST:
        raise ValueError(f"a list of {len(values):,} entries, expected at most {MOST:,}")
    return values


def check_settings(settings: Mapping[str, Any]) -> None:
    """Check the texts among a run's settings, before anything else reads them.

    Raises:
        SiteError: there are too many, or one is too long or has characters that do not print.
    """
    try:
        if len(settings) > SETTINGS:
            raise ValueError(f"{len(settings):,} settings, expected at most {SETTINGS}")
        for key, value in settings.items():
            token(key)
            if isinstance(value, str):
                _printing(value, key, CLASS_NAMES if key == "class-names" else SETTING)
    except ValueError as error:
        raise SiteError("unreadable-settings", f"the run's settings have {error}") from None


def _printing(value: Any, kind: str, most: int) -> str:
    text = _short(value, kind, most)
    if not is_printable(text):
        raise ValueError(f"the {kind} '{printable(text, 40)}', expected characters that print, in one line")
    return text


def _short(value: Any, kind: str, most: int) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a {kind} of type {type(value).__name__}, expected a text")
    if len(value) > most:
        raise ValueError(f"a {kind} of {len(value):,} characters, expected at most {most:,}")
    return value
