"""How an audit's cases, attacks and measures are named, and what a row of its table says."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from fedtransfer.simulations.report.blocks import NONE, number, percent, shown
from fedtransfer.simulations.report.blocks import epsilon as epsilon_words
from fedtransfer.simulations.report.reading import Audit, Row, real

_PROTECTION = {
    "": "as it ran",
    "none": "no protection",
    "masks": "masks",
    "dp": "differential privacy",
    "both": "differential privacy and masks",
}
SHORT = (
    "none: no protection; masks: secure aggregation; dp: differential privacy; both: dp and masks. Masks leave the head that "
    "comes out as it is but for rounding: what was found on it once is told of both."
)
MEMBERSHIP = {"auc", "tpr@1%", "tpr@0.1%"}
_SHARES = {"accuracy", "exact_share", "tpr@1%", "tpr@0.1%", "right_guesses"}
MEASURES = {
    "accuracy": "accuracy of the head",
    "inside_span": "share of features in the row space",
    "inside_span_of_others": "the same of another site",
    "exact_share": "counts found exactly",
    "l1": "L1 distance of counts",
    "cosine@1": "cosine, classes of 1 image",
    "cosine@2-5": "cosine, classes of 2 to 5",
    "cosine@6+": "cosine, classes of 6 or more",
    "max_cosine": "highest cosine",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "psnr_of_class_mean": "PSNR of class means, dB",
    "ssim_of_class_mean": "SSIM of class means",
    "auc": "area under the ROC curve",
    "tpr@1%": "found at 1 % false alarms",
    "tpr@0.1%": "found at 0.1 % false alarms",
    "right_guesses": "right guesses",
    "epsilon_lower_bound": "lower bound of ε",
    "most_provable": "most that can be proven",
    "claimed": "claimed ε",
}
CHANCE = {
    "exact_share": "by one number for all",
    "l1": "by equal counts",
    "cosine@1": "of the class's mean",
    "cosine@2-5": "of the class's mean",
    "cosine@6+": "of the class's mean",
    "max_cosine": "with another site's",
}

_Key = TypeVar("_Key", bound=Hashable)
_Found = TypeVar("_Found", bound=Hashable)


class Bound(NamedTuple):
    """A claimed ε and its lower bound from one run, and how many cases they stand for."""

    name: str
    cases: int
    claimed: float
    bound: float


def merged(found: Mapping[tuple[_Key, str], _Found]) -> list[tuple[_Key, tuple[str, ...], _Found]]:
    """Put protections together under which the very same was found: masks change nothing there, so it was measured once."""
    groups: dict[tuple[_Key, _Found], list[str]] = {}
    for (key, protection), what in found.items():
        groups.setdefault((key, what), []).append(protection)
    return [(key, tuple(protections), what) for (key, what), protections in groups.items()]


def protected(protection: str, epsilon: str = "") -> str:
    """Name a protection with its ε."""
    return _with(_PROTECTION.get(protection, protection), epsilon)


def protected_shortly(protections: Sequence[str], epsilon: str = "") -> str:
    """Name protections under which the same was found as a plan does, with their ε; "" where a run is as it ran."""
    return _with(", ".join(protections), epsilon) if any(protections) else ""


def _with(name: str, epsilon: str) -> str:
    return f"{name}, ε\u00a0=\u00a0{epsilon_words(real(epsilon))}" if epsilon else name


def images_of(row: Row) -> str:
    """Return a row's images a class; "" where a run has what it has."""
    images = row.get("images_per_class") or ""
    return "" if images == "0" else images


def case_of(strategy: str, protections: Sequence[str] = (), images: str = "", epsilon: str = "") -> str:
    """Name what an attack was on, shortly."""
    parts = [shown(strategy, 40), *filter(None, protections)]
    parts += [f"ε = {epsilon_words(real(epsilon))}"] if epsilon else []
    return ", ".join([*parts, *([f"{images} a class"] if images else [])])


def value_of(row: Row) -> str:
    """Return what a row measured, with its 95 % interval where it has one."""
    show = _format(row)
    interval = f" ({show(real(row['low']))} to {show(real(row['high']))})" if row.get("low") and row.get("high") else ""
    return show(real(row["value"])) + interval


def chance_of(row: Row) -> str:
    """Return what a guess comes to that needs nothing from the sites; "" where none is told."""
    return _format(row)(real(row["by_chance"])) if row.get("by_chance") else ""


def _format(row: Row) -> Callable[[float], str]:
    measure = row["measure"]
    return percent if measure in _SHARES else epsilon_words if measure == "claimed" else decimals


def decimals(value: float) -> str:
    """Return a number with two decimals, or fewer where it is large."""
    value = 0.0 if abs(value) < 0.005 else value
    return (
        NONE
        if math.isnan(value)
        else number(value)
        if abs(value) >= 100
        else f"{value:.1f}"
        if abs(value) >= 10
        else f"{value:.2f}"
    )


def highest(rows: Sequence[Row], measure: str) -> Row | None:
    """Return the row that has most of a measure."""
    mine = (row for row in rows if row["measure"] == measure and row["value"])
    return max(mine, key=lambda row: real(row["value"]), default=None)


def bounds_of(audit: Audit) -> list[Bound]:
    """Return each claimed ε with its lower bound, once: one run stands for all cases that share its mechanism."""
    cases: dict[tuple[str, ...], dict[str, float]] = {}
    for row in audit.table:
        if row["measure"] in ("epsilon_lower_bound", "claimed") and row["value"]:
            case = row["strategy"], row["epsilon"], images_of(row), row["protection"]
            cases.setdefault(case, {})[row["measure"]] = real(row["value"])
    groups: dict[tuple[str, str, float, float], list[str]] = {}
    for (strategy, epsilon, _, protection), pair in cases.items():
        if len(pair) == 2 and pair["claimed"] > 0:
            key = strategy, epsilon, pair["claimed"], pair["epsilon_lower_bound"]
            groups.setdefault(key, []).append(protection)
    return [
        Bound(case_of(strategy, tuple(dict.fromkeys(mine)), "", epsilon), len(mine), claimed, bound)
        for (strategy, epsilon, claimed, bound), mine in groups.items()
    ]
