"""Times, sizes, numbers and choices as text, and scores as JSON can hold them."""

import difflib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

# A no-break space, a full-width one, and the two joiners that scripts such as Persian need.
_HARMLESS = "\u00a0\u3000\u200c\u200d"


def ago(moment: datetime) -> str:
    """Return how long ago a moment was: ``5 min ago``; after 100 minutes its time in UTC."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    if seconds < 100:
        return f"{max(0, seconds):.0f} s ago"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min ago"
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def size(number: float) -> str:
    """Return a number of bytes with three digits: ``512 bytes``, ``32.8 KB``, ``1.97 GB``."""
    unit = "bytes"
    for larger in ("KB", "MB", "GB", "TB"):
        if number < 999.5:
            break
        number, unit = number / 1000, larger
    return f"{number:.3g} {unit}"


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number and its noun: ``1 round``, ``1,000 rounds``; ``many``: irregular plural."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def some(names: Sequence[str], most: int) -> str:
    """Return the first ``most`` names, separated by commas, and an ellipsis if there are more."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def is_printable(text: str) -> bool:
    """Whether a terminal shows a text and does nothing else, such as change its direction."""
    return text.isprintable() or all(c.isprintable() or c in _HARMLESS for c in text)


def printable(text: str, most: int = 1000) -> str:
    """Return a text from outside as one line for a terminal, of at most ``most`` characters.

    Other characters become escapes: a line feed ``\\n``, an escape ``\\x1b``.
    """
    cut = text if len(text) <= most else text[: most - 1] + "…"
    line = "".join(c if is_printable(c) else c.encode("unicode_escape").decode() for c in cut)
    return line if len(line) <= most else line[: most - 1] + "…"


def plain(value: Any) -> Any:
    """Replace NaN by None at every depth, since JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and value != value else value


def nearest(word: str, choices: list[str]) -> str:
    """Return ``did you mean …?`` with the closest choice, or all choices if none is close."""
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"expected one of: {', '.join(choices)}"
