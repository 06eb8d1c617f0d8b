"""Numbers and names as the page writes them."""

import math
import tomllib
import unicodedata
from collections.abc import Iterable, Sequence
from decimal import ROUND_CEILING, Context
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from fedtransfer.common.data.feature_card import card_of

NONE = "—"
_JOINERS = "\u200c\u200d"  # of scripts and emoji: the only invisible characters that are kept


def printable(text: Any, length: int = 80) -> str:
    """Return a text without control characters, shortened in its middle if it is long."""
    spaced = (" " if letter.isspace() else letter for letter in str(text))
    visible = "".join(
        letter for letter in spaced
        if letter in _JOINERS or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Cn")
    )  # fmt: skip
    if len(visible) <= length:
        return visible
    return f"{visible[: length // 2]}…{visible[len(visible) - (length - 1) // 2 :]}"


def backbone(name: Any, resolution: Any) -> str:
    """Return a backbone at its resolution; or the width and origin of ready-made features."""
    if card := card_of(str(name)):
        origin = f" ({printable(card.name, 60)})" if card.name else ""
        return f"ready-made features of width {card.width}{origin}"
    return f"{printable(name, 60)} at {resolution} px"


def pixels(name: Any, resolution: Any) -> str:
    """Return a backbone's resolution, or a dash for ready-made features."""
    return NONE if card_of(str(name)) else f"{resolution} px"


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share in per cent, or a dash if it is missing."""
    return NONE if value is None or math.isnan(value) else f"{100 * value:.{digits}f}\u00a0%"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number in ``digits`` digits, or a dash if it is missing."""
    if value is None or math.isnan(value):
        return NONE
    large = abs(value) >= 10**digits
    return "∞" if math.isinf(value) else f"{value:,.0f}" if large else f"{value:.{digits}g}"


def decimals(value: float) -> str:
    """Return a number with two decimals, or fewer if it is large."""
    value = 0.0 if abs(value) < 0.005 else value
    if math.isnan(value):
        return NONE
    return number(value) if abs(value) >= 100 else f"{value:.{1 if abs(value) >= 10 else 2}f}"


def epsilon(value: float) -> str:
    """Return an ε in three digits at most, rounded up, never below what was spent: 8 for 7.999."""
    if not math.isfinite(value):
        return number(value)
    return number(float(Context(prec=3, rounding=ROUND_CEILING).create_decimal(repr(float(value)))))


def power(value: float) -> str:
    """Return a small number such as δ in powers of ten: ``10⁻⁵``, ``3.2 × 10⁻⁶``."""
    digits, exponent = f"{value:.1e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if digits == "1.0" else f"{digits.removesuffix('.0')} × 10{raised}"


def span(low: str, high: str) -> str:
    """Return ``low to high``, or the one value that both are."""
    return low if low == high else f"{low} to {high}"


def listed(words: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def numbers_in_words(numbers: Iterable[int]) -> str:
    """Return ``0 to 4, 7`` for 0, 1, 2, 3, 4, 7."""
    parts = []
    for _, run in groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0]):
        values = [value for _, value in run]
        parts.append(f"{values[0]} to {values[-1]}" if len(values) > 2 else ", ".join(map(str, values)))
    return ", ".join(parts)


@cache
def names(of: str) -> dict[str, str]:
    """Return a table of ``templates/names.toml``: what files call it → what the page calls it."""
    return dict(tomllib.loads((Path(__file__).parent / "templates/names.toml").read_text("utf-8"))[of])
